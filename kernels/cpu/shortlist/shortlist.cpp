#include "kernels/cpu/shortlist/shortlist.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace cga::cpu {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/// @param row  of logits, all below +inf: [n_vocab], f32
void select(const float* row, std::int64_t n_vocab, std::int32_t k, Candidate* likeliest) {
  std::vector<Candidate> all(static_cast<std::size_t>(n_vocab));
  for (std::int64_t i = 0; i < n_vocab; ++i) {
    all[static_cast<std::size_t>(i)] = {static_cast<TokenId>(i), row[i] + 0.0f};  // -0 becomes 0
  }
  std::nth_element(all.begin(), all.begin() + (k - 1), all.end(), before);
  std::sort(all.begin(), all.begin() + k, before);
  std::copy_n(all.begin(), k, likeliest);
}

double sum_weights(const float* row, std::int64_t n_vocab, float highest) {
  if (highest == -infinity) return 0;
  double sum = 0;
  for (std::int64_t i = 0; i < n_vocab; ++i) sum += double{std::exp(row[i] - highest)};
  return sum;
}

}  // namespace

void shortlist(const ShortlistParams& params, ThreadPool& pool) {
  pool.parallel_for(params.n_rows, [&](std::int64_t task, int) {
    const float* const row = params.logits + task * params.n_vocab;
    Candidate* const likeliest = params.likeliest + task * params.k;
    LogitSummary& summary = params.summaries[task];
    const float* const bad =
        std::find_if(row, row + params.n_vocab, [](float logit) { return !(logit < infinity); });
    if (bad != row + params.n_vocab) {
      summary = {.first_invalid = static_cast<std::int32_t>(bad - row), .invalid = *bad};
      return;
    }
    select(row, params.n_vocab, params.k, likeliest);
    summary = {.sum = sum_weights(row, params.n_vocab, likeliest[0].logit), .first_invalid = -1};
  });
}

}  // namespace cga::cpu
