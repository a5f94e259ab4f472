// What a perplexity run knows about the rows scored so far: moments, paired moments against a base,
// quantiles. Errors are standard errors of the mean, as llama.cpp reports them.
#pragma once

#include <cstdint>
#include <vector>

namespace cga::cli {

/// Mean and standard error of the numbers added, by Welford's update: no cancellation, whatever their size.
class Moments {
 public:
  void add(double value);

  std::int64_t count() const { return count_; }
  double mean() const { return mean_; }
  /// Squared standard error of the mean: Σ(x - mean)² / n / (n - 1); 0 below two values.
  double error_squared() const;
  double error() const;

 private:
  std::int64_t count_ = 0;
  double mean_ = 0, sum_squares_ = 0;
};

struct Estimate {
  double value = 0, error = 0;
};

/// exp(mean) with the error carried to first order: the perplexity of mean negative log-likelihoods.
Estimate exponential(const Moments& nll);

/// Root of a mean of squares, with its error to first order.
Estimate root(const Moments& squares);

/// Share of `hits` in `count` with its binomial error.
Estimate share(std::int64_t hits, std::int64_t count);

struct Interval {
  double low = 0, high = 0;
};

/// Wilson's 95 % interval of the share of `hits` in `count`, which must not be 0: unlike the binomial error
/// it is honest near 0 and 1.
Interval wilson_95(std::int64_t hits, std::int64_t count);

/// One scored row beside the base's row for the same token.
struct RowComparison {
  double nll = 0, nll_base = 0;
  double kld = 0;     // KL(base ‖ model), nats
  double p_diff = 0;  // the model's probability of the token minus the base's
  bool same_top = false;
};

/// All comparisons of a run.
class ComparisonTotals {
 public:
  void add(const RowComparison& row);

  std::int64_t count() const { return nll_.count(); }
  const Moments& nll() const { return nll_; }
  const Moments& nll_base() const { return nll_base_; }
  const Moments& log_ratio() const {
    return log_ratio_;
  }  ///< nll - nll_base, row by row: the pairing is kept
  const Moments& kld() const { return kld_; }
  const Moments& p_diff() const { return p_diff_; }
  Estimate p_diff_rms() const { return root(p_diff_squared_); }
  Estimate same_top() const { return share(n_same_top_, count()); }
  /// Correlation of the two mean log-likelihoods.
  double correlation() const;
  /// PPL(model) - PPL(base) with the paired error.
  Estimate difference() const;

  std::vector<float> sorted_kld() const;
  std::vector<float> sorted_p_diff() const;

 private:
  double covariance() const;  // of the two means

  Moments nll_, nll_base_, log_ratio_, kld_, p_diff_, p_diff_squared_;
  std::int64_t n_same_top_ = 0;
  std::vector<float> kld_values_, p_diff_values_;  // [count]
};

/// Value at `fraction` of a sorted list, linear between neighbours; the list must not be empty.
double quantile(const std::vector<float>& sorted, double fraction);

}  // namespace cga::cli
