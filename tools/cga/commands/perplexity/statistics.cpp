// Statistics of a perplexity run; see the header.
#include "tools/cga/commands/perplexity/statistics.h"

#include <algorithm>
#include <cmath>

namespace cga::cli {

void Moments::add(double value) {
  ++count_;
  const double before = value - mean_;
  mean_ += before / static_cast<double>(count_);
  sum_squares_ += before * (value - mean_);
}

double Moments::error_squared() const {
  if (count_ < 2) return 0.0;
  const auto n = static_cast<double>(count_);
  return sum_squares_ / n / (n - 1.0);
}

double Moments::error() const {
  return std::sqrt(error_squared());
}

Estimate exponential(const Moments& nll) {
  const double value = std::exp(nll.mean());
  return {value, value * nll.error()};
}

Estimate root(const Moments& squares) {
  const double value = std::sqrt(squares.mean());
  return {value, value > 0.0 ? 0.5 / value * squares.error() : 0.0};
}

Estimate share(std::int64_t hits, std::int64_t count) {
  if (count == 0) return {};
  const double p = static_cast<double>(hits) / static_cast<double>(count);
  return {p, count < 2 ? 0.0 : std::sqrt(p * (1.0 - p) / static_cast<double>(count - 1))};
}

Interval wilson_95(std::int64_t hits, std::int64_t count) {
  constexpr double z = 1.95996398454;
  const auto n = static_cast<double>(count);
  const double p = static_cast<double>(hits) / n;
  const double share_of_z = z * z / n;
  const double middle = p + 0.5 * share_of_z;
  const double half = z * std::sqrt((p * (1.0 - p) + 0.25 * share_of_z) / n);
  return {(middle - half) / (1.0 + share_of_z), (middle + half) / (1.0 + share_of_z)};
}

void ComparisonTotals::add(const RowComparison& row) {
  nll_.add(row.nll);
  nll_base_.add(row.nll_base);
  log_ratio_.add(row.nll - row.nll_base);
  kld_.add(row.kld);
  p_diff_.add(row.p_diff);
  p_diff_squared_.add(row.p_diff * row.p_diff);
  n_same_top_ += row.same_top ? 1 : 0;
  kld_values_.push_back(static_cast<float>(row.kld));
  p_diff_values_.push_back(static_cast<float>(row.p_diff));
}

double ComparisonTotals::covariance() const {
  // var(a - b) = var(a) + var(b) - 2 cov(a, b)
  return 0.5 * (nll_.error_squared() + nll_base_.error_squared() - log_ratio_.error_squared());
}

double ComparisonTotals::correlation() const {
  const double scale = nll_.error() * nll_base_.error();
  return scale > 0.0 ? covariance() / scale : 1.0;
}

Estimate ComparisonTotals::difference() const {
  const Estimate model = exponential(nll_);
  const Estimate base = exponential(nll_base_);
  const double variance =
      model.error * model.error + base.error * base.error - 2.0 * model.value * base.value * covariance();
  return {model.value - base.value, std::sqrt(std::max(variance, 0.0))};
}

namespace {

std::vector<float> sorted(std::vector<float> values) {
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

std::vector<float> ComparisonTotals::sorted_kld() const {
  return sorted(kld_values_);
}
std::vector<float> ComparisonTotals::sorted_p_diff() const {
  return sorted(p_diff_values_);
}

double quantile(const std::vector<float>& sorted, double fraction) {
  const double at = std::clamp(fraction, 0.0, 1.0) * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = at - static_cast<double>(below);
  return (1.0 - part) * double{sorted[below]} + part * double{sorted[above]};
}

}  // namespace cga::cli
