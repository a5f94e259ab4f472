#include "runtime/shortlists.h"

#include <algorithm>
#include <bit>

namespace cga {
namespace {

/// What is taken for a wish: sizes that many samplers share, since what penalties look back on differs by a
/// few tokens between sequences.
std::int32_t size_to_take(std::int32_t wanted, std::int32_t longest, std::int64_t n_vocab) {
  constexpr std::uint32_t least = 64;
  const auto rounded =
      static_cast<std::int32_t>(std::bit_ceil(std::max(static_cast<std::uint32_t>(wanted), least)));
  return static_cast<std::int32_t>(std::min<std::int64_t>(std::min(rounded, longest), n_vocab));
}

}  // namespace

Shortlist Shortlists::of_row(Ops& ops, const float* logits, std::int64_t n_rows, std::int64_t n_vocab,
                             std::int64_t row, std::int32_t size) {
  const std::int32_t k = size_to_take(size, ops.longest_shortlist(n_vocab), n_vocab);
  if (k > k_) {
    k_ = k;
    likeliest_.resize(static_cast<std::size_t>(n_rows * k));
    summaries_.resize(static_cast<std::size_t>(n_rows));
    ops.shortlist({.logits = logits,
                   .n_rows = n_rows,
                   .n_vocab = n_vocab,
                   .k = k,
                   .likeliest = likeliest_.data(),
                   .summaries = summaries_.data()});
  }
  const auto i = static_cast<std::size_t>(row), n = static_cast<std::size_t>(k_);
  return {std::span<const Candidate>(likeliest_).subspan(i * n, n), summaries_[i],
          static_cast<std::int32_t>(n_vocab)};
}

}  // namespace cga
