// The ways a perplexity run reduces rows of logits: likelihoods alone (kept in a base file if asked), or a
// comparison with a base file or with full attention. Rows are shared out to threads; sums are taken in row
// order, so that results do not depend on the number of threads. Chunks report on standard output as they
// finish, in llama.cpp's format.
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

/// Compares rows with a base's, and prints a line of running estimates a chunk.
class ComparingScorer : public Scorer {
 public:
  void finish_chunk(std::int32_t chunk) override;

  const ComparisonTotals& totals() const { return totals_; }

 protected:
  ComparingScorer(ThreadPool& threads, Output& out) : threads_(threads), out_(out) {}

  /// Adds the rows of a piece in order.  compare(i): row i of the piece beside the base's; called by threads
  template <class Compare>
  void add(const ScoredRows& rows, const Compare& compare);

 private:
  ThreadPool& threads_;
  Output& out_;
  ComparisonTotals totals_;
  std::vector<RowComparison> values_;  // [rows of a piece]
};

/// With the rows of a base file.
class FileScorer : public ComparingScorer {
 public:
  FileScorer(ThreadPool& threads, Output& out, const BaseFile& base)
      : ComparingScorer(threads, out), base_(base) {}

  void score(const ScoredRows& rows) override;

 private:
  const BaseFile& base_;
};

/// With those of full attention, which runs beside.
class FullScorer : public ComparingScorer {
 public:
  FullScorer(ThreadPool& threads, Output& out) : ComparingScorer(threads, out) {}

  void score(const ScoredRows& rows) override;
};

}  // namespace cga::cli
