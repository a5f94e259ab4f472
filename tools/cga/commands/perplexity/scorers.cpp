// Scorers; see the header.
#include "tools/cga/commands/perplexity/scorers.h"

#include <cmath>
#include <string>

#include "cga/error.h"
#include "tools/cga/commands/perplexity/report.h"

namespace cga::cli {
namespace {

/// Row i of the logits [n_rows, n_vocab] of a piece.
std::span<const float> row_of(std::span<const float> logits, const ScoredRows& rows, std::size_t i) {
  const std::size_t n_vocab = logits.size() / rows.targets.size();
  return logits.subspan(i * n_vocab, n_vocab);
}

void require_finite(double nll, std::int64_t row) {
  if (std::isfinite(nll)) return;
  throw Error(ErrorKind::bad_file, "model",
              "the logits of scored row " + std::to_string(row) + " are not finite",
              "check the model file, or try --kv f32 and --device scalar");
}

}  // namespace

void LikelihoodScorer::score(const ScoredRows& rows) {
  const std::size_t n = rows.targets.size();
  values_.resize(n);
  const auto parallel_for = [&](std::int64_t tasks, auto&& body) { threads_.parallel_for(tasks, body); };
  if (base_ != nullptr) {
    base_->write_rows(rows.logits, rows.targets, values_, parallel_for);
  } else {
    parallel_for(static_cast<std::int64_t>(n), [&](std::int64_t task, int) {
      const auto i = static_cast<std::size_t>(task);
      values_[i] = negative_log_likelihood(row_of(rows.logits, rows, i), rows.targets[i]);
    });
  }
  for (std::size_t i = 0; i < n; ++i) {
    require_finite(values_[i], rows.first + static_cast<std::int64_t>(i));
    nll_.add(values_[i]);
  }
}

void LikelihoodScorer::finish_chunk(std::int32_t chunk) {
  out_.write(running_estimate(chunk, nll_));
}

template <class Compare>
void ComparingScorer::add(const ScoredRows& rows, const Compare& compare) {
  const std::size_t n = rows.targets.size();
  values_.resize(n);
  threads_.parallel_for(static_cast<std::int64_t>(n), [&](std::int64_t task, int) {
    const auto i = static_cast<std::size_t>(task);
    values_[i] = compare(i);
  });
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t row = rows.first + static_cast<std::int64_t>(i);
    require_finite(values_[i].nll, row);
    require_finite(values_[i].nll_base, row);
    totals_.add(values_[i]);
  }
}

void ComparingScorer::finish_chunk(std::int32_t chunk) {
  if (chunk == 0) out_.write(comparison_heading());
  out_.write(running_comparison(chunk, totals_));
}

void FileScorer::score(const ScoredRows& rows) {
  const std::size_t n = rows.targets.size();
  std::vector<BaseFile::Row> base_rows;
  for (std::size_t i = 0; i < n; ++i)
    base_rows.push_back(base_.row(rows.first + static_cast<std::int64_t>(i)));
  add(rows, [&](std::size_t i) {
    return compare_row(row_of(rows.logits, rows, i), rows.targets[i], base_rows[i].head, base_rows[i].codes);
  });
  base_.release_rows(rows.first, static_cast<std::int64_t>(n));
}

void FullScorer::score(const ScoredRows& rows) {
  add(rows, [&](std::size_t i) {
    return compare_row(row_of(rows.logits, rows, i), rows.targets[i], row_of(rows.full, rows, i));
  });
}

}  // namespace cga::cli
