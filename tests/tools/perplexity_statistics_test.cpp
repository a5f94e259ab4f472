// The statistics of perplexity runs against numbers computed by hand from their definitions.
#include "tools/cga/commands/perplexity/statistics.h"

#include <cmath>
#include <string>

#include "support/catch.h"
#include "tools/cga/commands/perplexity/report.h"

namespace cga::cli {
namespace {

using test::Approx;

TEST_CASE("perplexity and its error follow the mean negative log-likelihood") {
  Moments nll;
  for (const double value : {1.0, 2.0, 4.0, 5.0}) nll.add(value);
  // mean 3; Σ(x - 3)² = 4 + 1 + 1 + 4 = 10; error² of the mean = 10 / 4 / 3
  CHECK(nll.mean() == Approx(3.0));
  CHECK(nll.error() == Approx(std::sqrt(10.0 / 12.0)));
  const Estimate ppl = exponential(nll);
  CHECK(ppl.value == Approx(std::exp(3.0)));
  CHECK(ppl.error == Approx(std::exp(3.0) * std::sqrt(10.0 / 12.0)));
}

TEST_CASE("moments keep their digits far from zero") {
  Moments shifted;
  for (const double value : {1e9 + 1.0, 1e9 + 2.0, 1e9 + 4.0, 1e9 + 5.0}) shifted.add(value);
  CHECK(shifted.error() == Approx(std::sqrt(10.0 / 12.0)).epsilon(1e-7));
}

TEST_CASE("one value has no error") {
  Moments one;
  one.add(2.0);
  CHECK(one.error() == 0.0);
}

TEST_CASE("the interval of a share is Wilson's") {
  // 8 of 10, from the formula by hand; the edges stay inside [0, 1], where the binomial error would be 0.
  CHECK(wilson_95(8, 10).low == Approx(0.4901625).epsilon(1e-6));
  CHECK(wilson_95(8, 10).high == Approx(0.9433178).epsilon(1e-6));
  CHECK(wilson_95(0, 10).low == Approx(0.0).margin(1e-12));
  CHECK(wilson_95(0, 10).high == Approx(0.2775328).epsilon(1e-6));
  CHECK(wilson_95(10, 10).high == Approx(1.0));
  CHECK(running_accuracy(8, 10) == "10\t80.00000000%\t[49.0162%, 94.3318%]\n");
  CHECK(final_accuracy(8, 10) == "\nFinal accuracy: 80.00 % [49.02 %, 94.33 %] (95 %), 8 of 10\n");
}

TEST_CASE("quantiles are linear between neighbours") {
  const std::vector<float> values = {0.0f, 1.0f, 2.0f, 10.0f};
  CHECK(quantile(values, 0.0) == 0.0);
  CHECK(quantile(values, 1.0) == 10.0);
  CHECK(quantile(values, 0.5) == Approx(1.5));
  CHECK(quantile(values, 0.9) == Approx(0.3 * 2.0 + 0.7 * 10.0));
  CHECK(quantile({7.0f}, 0.99) == 7.0);
}

TEST_CASE("comparisons with a base keep the pairing of rows") {
  // The model is worse than the base by a constant factor: the ratio is known exactly, though each
  // perplexity is not.
  ComparisonTotals totals;
  for (const double nll : {0.5, 1.5, 4.0, 2.0}) totals.add({nll + 0.25, nll, 0.01 * nll, -0.125, nll > 1.0});
  CHECK(totals.count() == 4);
  const Estimate ratio = exponential(totals.log_ratio());
  CHECK(ratio.value == Approx(std::exp(0.25)));
  CHECK(ratio.error == Approx(0.0).margin(1e-12));
  CHECK(totals.nll().error() > 0.5);
  CHECK(totals.correlation() == Approx(1.0));
  CHECK(totals.kld().mean() == Approx(0.02));
  CHECK(totals.p_diff_rms().value == Approx(0.125));
  CHECK(totals.same_top().value == Approx(0.75));
  CHECK(totals.same_top().error == Approx(std::sqrt(0.75 * 0.25 / 3.0)));
  CHECK(totals.sorted_kld().front() == Approx(0.005));
  CHECK(totals.sorted_kld().back() == Approx(0.04));
}

TEST_CASE("the change of perplexity has an interval of 1.96 paired standard errors") {
  // Log ratios 0.01 and 0.03: mean 0.02, standard error 0.01; e^0.02 - 1 = 2.020 %, e^0.02 * 1.96 * 0.01
  // = 2.000 %.
  ComparisonTotals totals;
  totals.add({1.01, 1.0, 0.0, 0.0, true});
  totals.add({3.03, 3.0, 0.0, 0.0, true});
  CHECK(comparison_summary(totals).find("\nPPL change: +2.020 % ± 2.000 % (95 %)\n") != std::string::npos);
}

TEST_CASE("independent rows give the error of independent perplexities") {
  // Two rows each way: cov(model, base) = 0.
  ComparisonTotals totals;
  for (const double a : {1.0, 2.0}) {
    for (const double b : {1.0, 2.0}) totals.add({a, b, 0.0, 0.0, true});
  }
  CHECK(totals.correlation() == Approx(0.0).margin(1e-12));
  const double each = exponential(totals.nll()).error;
  CHECK(totals.difference().value == Approx(0.0).margin(1e-12));
  CHECK(totals.difference().error == Approx(std::sqrt(2.0) * each));
}

}  // namespace
}  // namespace cga::cli
