// Scorers; see the header.
#include "tools/cga/commands/perplexity/scorers.h"

#include <cmath>
#include <string>

#include "cga/error.h"
#include "tools/cga/commands/perplexity/report.h"

namespace cga::cli {
namespace {

std::span<const float> row_of(const ScoredRows& rows, std::size_t i) {
  const std::size_t n_vocab = rows.logits.size() / rows.targets.size();
  return rows.logits.subspan(i * n_vocab, n_vocab);
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
      values_[i] = negative_log_likelihood(row_of(rows, i), rows.targets[i]);
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

void ComparingScorer::score(const ScoredRows& rows) {
  const std::size_t n = rows.targets.size();
  std::vector<BaseFile::Row> base_rows;
  for (std::size_t i = 0; i < n; ++i)
    base_rows.push_back(base_.row(rows.first + static_cast<std::int64_t>(i)));
  values_.resize(n);
  threads_.parallel_for(static_cast<std::int64_t>(n), [&](std::int64_t task, int) {
    const auto i = static_cast<std::size_t>(task);
    values_[i] = compare_row(row_of(rows, i), rows.targets[i], base_rows[i].head, base_rows[i].codes);
  });
  for (std::size_t i = 0; i < n; ++i) {
    require_finite(values_[i].nll, rows.first + static_cast<std::int64_t>(i));
    totals_.add(values_[i]);
  }
  base_.release_rows(rows.first, static_cast<std::int64_t>(n));
}

void ComparingScorer::finish_chunk(std::int32_t chunk) {
  if (chunk == 0) out_.write(comparison_heading());
  out_.write(running_comparison(chunk, totals_));
}

}  // namespace cga::cli
