// The two ways a perplexity run reduces rows of logits: likelihoods alone (kept in a base file if asked), or
// a comparison with a base file. Rows are shared out to threads; sums are taken in row order, so that results
// do not depend on the number of threads. Chunks report on standard output as they finish, in llama.cpp's
// format.
#pragma once

#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "tools/cga/commands/perplexity/base.h"
#include "tools/cga/commands/perplexity/run.h"
#include "tools/cga/commands/perplexity/statistics.h"
#include "tools/cga/console.h"

namespace cga::cli {

/// Prints "[1]12.3456,[2]…".
class LikelihoodScorer : public Scorer {
 public:
  /// @param base  where rows are kept, or null
  LikelihoodScorer(ThreadPool& threads, Output& out, BaseWriter* base)
      : threads_(threads), out_(out), base_(base) {}

  void score(const ScoredRows& rows) override;
  void finish_chunk(std::int32_t chunk) override;

  const Moments& nll() const { return nll_; }

 private:
  ThreadPool& threads_;
  Output& out_;
  BaseWriter* base_;
  Moments nll_;
  std::vector<double> values_;  // [rows of a piece]
};

/// Prints a line of running estimates a chunk.
class ComparingScorer : public Scorer {
 public:
  ComparingScorer(ThreadPool& threads, Output& out, const BaseFile& base)
      : threads_(threads), out_(out), base_(base) {}

  void score(const ScoredRows& rows) override;
  void finish_chunk(std::int32_t chunk) override;

  const ComparisonTotals& totals() const { return totals_; }

 private:
  ThreadPool& threads_;
  Output& out_;
  const BaseFile& base_;
  ComparisonTotals totals_;
  std::vector<RowComparison> values_;  // [rows of a piece]
};

}  // namespace cga::cli
