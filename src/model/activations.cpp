// One allocation holds all intermediates, each aligned to a cache line.
#include "base/checked.h"
#include "model/forward.h"

namespace cga {
namespace {

/// Floats a row, in the order the members are laid out.
struct RowWidths {
  explicit RowWidths(const Hparams& hparams)
      : dim(hparams.dim),
        q(hparams.attention.q_dim()),
        kv(hparams.attention.kv_dim()),
        ffn(hparams.ffn_dim),
        angles(hparams.attention.head_dim) {}

  std::int64_t dim, q, kv, ffn, angles;
};

constexpr std::int64_t line_floats = 16;

std::int64_t padded(std::int64_t width, std::int64_t max_tokens) {
  return round_up(width * max_tokens, line_floats);
}

}  // namespace

std::int64_t Activations::bytes(const Hparams& hparams, std::int64_t max_tokens) {
  const RowWidths width(hparams);
  const std::int64_t floats = 2 * padded(width.dim, max_tokens) + 2 * padded(width.q, max_tokens) +
                              2 * padded(width.kv, max_tokens) + 2 * padded(width.ffn, max_tokens) +
                              padded(width.angles, max_tokens);
  return floats * static_cast<std::int64_t>(sizeof(float));
}

Activations::Activations(Backend& backend, const Hparams& hparams, std::int64_t max_tokens)
    : buffer_(backend.allocate(static_cast<std::size_t>(bytes(hparams, max_tokens)), "activations")) {
  const RowWidths width(hparams);
  float* next = buffer_->as<float>();
  const auto take = [&](std::int64_t row_width) {
    float* taken = next;
    next += padded(row_width, max_tokens);
    return taken;
  };
  x = take(width.dim);
  h = take(width.dim);
  attention.q = take(width.q);
  attention.k = take(width.kv);
  attention.v = take(width.kv);
  attention.mixed = take(width.q);
  gate = take(width.ffn);
  up = take(width.ffn);
  cos_sin = take(width.angles);
}

}  // namespace cga
