// From rows of logits, wherever they lie, to tokens.
#include <string>

#include "runtime/engine_impl.h"

namespace cga {
namespace {

void check_row(std::int64_t row, std::int64_t n_rows) {
  if (row >= 0 && row < n_rows) return;
  throw Error(ErrorKind::usage, "logits",
              "found row " + std::to_string(row) + ", the last run left " + std::to_string(n_rows));
}

}  // namespace

std::span<const float> Engine::Impl::read_logits(std::int64_t first_row, std::int64_t n_rows) {
  if (!logits) return {};
  const auto n_logits = static_cast<std::size_t>(n_rows * info.n_vocab);
  const float* const first = logits->as<float>() + first_row * info.n_vocab;
  return {static_cast<const float*>(backend->read(first, n_logits * sizeof(float))), n_logits};
}

std::span<const float> Engine::logits(std::int64_t row) {
  check_row(row, impl_->n_logit_rows);
  return impl_->read_logits(row, 1);
}

TokenId Engine::sample(std::int64_t row, Sampler& sampler) {
  Impl& e = *impl_;
  check_row(row, e.n_logit_rows);
  Ops& ops = e.backend->ops();
  try {
    const std::int32_t size = sampler.shortlist_size(ops.longest_shortlist(e.info.n_vocab));
    if (size > 0) {
      const Shortlist list =
          e.shortlists.of_row(ops, e.logits->as<float>(), e.n_logit_rows, e.info.n_vocab, row, size);
      if (const auto id = sampler.sample(list)) return *id;
    }
    return sampler.sample(e.read_logits(row, 1));
  } catch (const Error& error) {
    if (e.n_logit_rows == 1 || error.kind() != ErrorKind::bad_file) throw;
    throw Error(error.kind(), "row " + std::to_string(row) + " of the batch", error.what());
  }
}

}  // namespace cga
