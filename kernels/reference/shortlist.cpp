// The likeliest tokens of rows of logits: all of a row is sorted.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference_ops.h"

namespace cga::reference {
namespace {

bool before(const Candidate& a, const Candidate& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

}  // namespace

// This backend reads logits where they lie, as the CPU does. It takes shortlists so that tests of the engine
// go the way that logits on a device go, on any machine.
std::int32_t ReferenceOps::longest_shortlist(std::int64_t /*n_vocab*/) const {
  return 256;
}

void ReferenceOps::shortlist(const ShortlistParams& params) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (std::int64_t row = 0; row < params.n_rows; ++row) {
    const float* logits = params.logits + row * params.n_vocab;
    LogitSummary& summary = params.summaries[row];
    summary = {.first_invalid = -1};
    std::vector<Candidate> all;
    for (std::int64_t i = 0; i < params.n_vocab; ++i) {
      if (logits[i] < infinity) {
        all.push_back({static_cast<TokenId>(i), logits[i] + 0.0f});  // -0 becomes 0
      } else if (summary.first_invalid < 0) {
        summary.first_invalid = static_cast<std::int32_t>(i);
        summary.invalid = logits[i];
      }
    }
    if (summary.first_invalid >= 0) continue;
    std::sort(all.begin(), all.end(), before);
    std::copy_n(all.begin(), params.k, params.likeliest + row * params.k);
    const float highest = all.front().logit;
    if (highest == -infinity) continue;
    for (std::int64_t i = 0; i < params.n_vocab; ++i) {
      summary.sum += std::exp(static_cast<double>(logits[i]) - highest);
    }
  }
}

}  // namespace cga::reference
