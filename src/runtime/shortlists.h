// Shortlists of the rows of logits of one run. They are taken of all rows when the first is asked for: the
// sequences of a batch mostly sample alike, and one call of the device serves all.
#pragma once

#include <vector>

#include "cga/shortlist.h"
#include "kernels/ops.h"

namespace cga {

class Shortlists {
 public:
  /// Forgets what was taken: there are other logits now.
  void clear() { k_ = 0; }

  /// @param logits  [n_rows, n_vocab], f32, in the backend's memory: the same until clear()
  /// @param size    tokens that are wanted at least, from 1 to ops.longest_shortlist(n_vocab)
  /// @return of at least min(size, n_vocab) tokens; valid until the next call
  Shortlist of_row(Ops& ops, const float* logits, std::int64_t n_rows, std::int64_t n_vocab, std::int64_t row,
                   std::int32_t size);

 private:
  std::int32_t k_ = 0;                   // of what was taken; 0: nothing yet
  std::vector<Candidate> likeliest_;     // [n_rows, k]
  std::vector<LogitSummary> summaries_;  // [n_rows]
};

}  // namespace cga
