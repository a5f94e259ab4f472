#include "cga/adapters.h"

#include <algorithm>

#include "cga/step_memory.h"

namespace cga {
namespace {

/// Rows of heads in half-split order, (i, i + head_dim/2), as rows in interleaved order, (2i, 2i + 1).
std::vector<std::uint16_t> interleaved(const std::uint16_t* rows, std::int64_t n_heads, std::int64_t head_dim,
                                       std::int64_t rank) {
  std::vector<std::uint16_t> result(static_cast<std::size_t>(n_heads * head_dim * rank));
  for (std::int64_t row = 0; row < n_heads * head_dim; ++row) {
    const std::int64_t i = row % head_dim;
    const std::int64_t from = row - i + i / 2 + i % 2 * (head_dim / 2);
    std::copy_n(rows + from * rank, rank, result.begin() + row * rank);
  }
  return result;
}

}  // namespace

Adapters::Adapters(Backend& backend, const Sidecar& sidecar, RopePairs pairs) : backend_(backend) {
  const BaseModel& base = sidecar.metadata().base;
  const std::int64_t dim = base.dim, q_dim = std::int64_t{base.n_heads} * base.head_dim;
  Ops& ops = backend.ops();
  layers_.reserve(sidecar.adapters().size());
  for (const LayerAdapter& from : sidecar.adapters()) {
    rank_ = std::max(rank_, from.rank);
    Layer& layer = layers_.emplace_back();
    const std::uint16_t* q_up = from.q_up;
    if (pairs == RopePairs::interleaved) {
      layer.q_up_in_pairs = interleaved(from.q_up, base.n_heads, base.head_dim, from.rank);
      q_up = layer.q_up_in_pairs.data();
    }
    layer.q_down = ops.prepare(half_matrix(from.q_down, from.rank, dim));
    layer.q_up = ops.prepare(half_matrix(q_up, q_dim, from.rank));
    layer.o_down = ops.prepare(half_matrix(from.o_down, from.rank, q_dim));
    layer.o_up = ops.prepare(half_matrix(from.o_up, dim, from.rank));
  }
}

std::int64_t Adapters::matrix_bytes() const {
  std::int64_t bytes = 0;
  for (const Layer& own : layers_) {
    bytes += own.q_down->bytes + own.q_up->bytes + own.o_down->bytes + own.o_up->bytes;
  }
  return bytes;
}

AdaptedRows Adapters::of(std::int32_t layer, std::span<const RowRange> rows) {
  std::int64_t most = 0;
  for (const RowRange& range : rows) most = std::max<std::int64_t>(most, range.count);
  float* narrow = reserve(backend_, narrow_, most * rank_, "adapters");
  const Layer& own = layers_[static_cast<std::size_t>(layer)];
  return {rows, {own.q_down.get(), own.q_up.get()}, {own.o_down.get(), own.o_up.get()}, narrow};
}

}  // namespace cga
