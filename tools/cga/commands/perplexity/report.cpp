// Formats; see the header.
#include "tools/cga/commands/perplexity/report.h"

#include <spdlog/fmt/fmt.h>

#include <array>
#include <cmath>
#include <string_view>
#include <utility>

namespace cga::cli {
namespace {

using LabelledFraction = std::pair<std::string_view, double>;

constexpr std::array<LabelledFraction, 11> kld_quantiles = {{{"Maximum", 1.0},
                                                             {"99.9%  ", 0.999},
                                                             {"99.0%  ", 0.99},
                                                             {"95.0%  ", 0.95},
                                                             {"90.0%  ", 0.90},
                                                             {"Median ", 0.5},
                                                             {"10.0%  ", 0.10},
                                                             {" 5.0%  ", 0.05},
                                                             {" 1.0%  ", 0.01},
                                                             {" 0.1%  ", 0.001},
                                                             {"Minimum", 0.0}}};

constexpr std::array<LabelledFraction, 13> p_diff_quantiles = {{{"Maximum", 1.0},
                                                                {"99.9%  ", 0.999},
                                                                {"99.0%  ", 0.99},
                                                                {"95.0%  ", 0.95},
                                                                {"90.0%  ", 0.90},
                                                                {"75.0%  ", 0.75},
                                                                {"Median ", 0.5},
                                                                {"25.0%  ", 0.25},
                                                                {"10.0%  ", 0.10},
                                                                {" 5.0%  ", 0.05},
                                                                {" 1.0%  ", 0.01},
                                                                {" 0.1%  ", 0.001},
                                                                {"Minimum", 0.0}}};

Estimate plain(const Moments& moments) {
  return {moments.mean(), moments.error()};
}

std::string number_line(std::string_view label, Estimate estimate) {
  return fmt::format("{:<30}: {:10.6f} ± {:10.6f}\n", label, estimate.value, estimate.error);
}

std::string percent_line(std::string_view label, Estimate estimate) {
  return fmt::format("{}: {:6.3f} ± {:5.3f} %\n", label, 100.0 * estimate.value, 100.0 * estimate.error);
}

/// The change of perplexity as one judges by: relative, with half of its 95 % interval. Rows are paired, so
/// it is far narrower than that of either perplexity.
std::string change_line(const Moments& log_ratio) {
  constexpr double interval_95 = 1.96;  // standard errors
  return fmt::format("PPL change: {:+.3f} % ± {:.3f} % (95 %)\n", 100.0 * std::expm1(log_ratio.mean()),
                     100.0 * interval_95 * exponential(log_ratio).error);
}

}  // namespace

std::string running_estimate(std::int32_t chunk, const Moments& nll) {
  return fmt::format("[{}]{:.4f},", chunk + 1, std::exp(nll.mean()));
}

std::string final_estimate(const Moments& nll) {
  const Estimate ppl = exponential(nll);
  return fmt::format("Final estimate: PPL = {:.4f} +/- {:.5f}\n", ppl.value, ppl.error);
}

std::string comparison_heading() {
  return "chunk             PPL               ln(PPL(Q)/PPL(base))          KL Divergence              Δp RMS"
         "            Same top p\n";
}

std::string running_comparison(std::int32_t chunk, const ComparisonTotals& totals) {
  const Estimate ppl = exponential(totals.nll());
  const Estimate ratio = plain(totals.log_ratio());
  const Estimate kld = plain(totals.kld());
  const Estimate rms = totals.p_diff_rms();
  const Estimate top = totals.same_top();
  return fmt::format(
      "{:4}    {:9.4f} ± {:9.4f}    {:10.5f} ± {:10.5f}    {:10.5f} ± {:10.5f}    {:6.3f} ± {:6.3f} %    "
      "{:6.3f} ± {:6.3f} %\n",
      chunk + 1, ppl.value, ppl.error, ratio.value, ratio.error, kld.value, kld.error, 100.0 * rms.value,
      100.0 * rms.error, 100.0 * top.value, 100.0 * top.error);
}

std::string comparison_summary(const ComparisonTotals& totals) {
  std::string text = "\n====== Perplexity statistics ======\n";
  text += number_line("Mean PPL(Q)", exponential(totals.nll()));
  text += number_line("Mean PPL(base)", exponential(totals.nll_base()));
  text += fmt::format("Cor(ln(PPL(Q)), ln(PPL(base))): {:6.2f}%\n", 100.0 * totals.correlation());
  text += number_line("Mean ln(PPL(Q)/PPL(base))", plain(totals.log_ratio()));
  text += number_line("Mean PPL(Q)/PPL(base)", exponential(totals.log_ratio()));
  text += number_line("Mean PPL(Q)-PPL(base)", totals.difference());
  text += change_line(totals.log_ratio());

  text += "\n====== KL divergence statistics ======\n";
  // Nine digits: the divergence of a run with itself, the floor of the coding, is about 1e-8.
  text += fmt::format("Mean    KLD: {:12.9f} ± {:12.9f}\n", totals.kld().mean(), totals.kld().error());
  const std::vector<float> kld = totals.sorted_kld();
  for (const auto& [label, fraction] : kld_quantiles) {
    text += fmt::format("{} KLD: {:12.9f}\n", label, quantile(kld, fraction));
  }

  text += "\n====== Token probability statistics ======\n";
  text += percent_line("Mean    Δp", plain(totals.p_diff()));
  const std::vector<float> p_diff = totals.sorted_p_diff();
  for (const auto& [label, fraction] : p_diff_quantiles) {
    text += fmt::format("{} Δp: {:6.3f}%\n", label, 100.0 * quantile(p_diff, fraction));
  }
  text += percent_line("RMS Δp    ", totals.p_diff_rms());
  text += percent_line("Same top p", totals.same_top());
  return text;
}

std::string accuracy_heading() {
  return "\ntask\tacc_norm\t95% confidence interval\n";
}

std::string running_accuracy(std::int64_t hits, std::int64_t count) {
  const Interval interval = wilson_95(hits, count);
  return fmt::format("{}\t{:.8f}%\t[{:.4f}%, {:.4f}%]\n", count, 100.0 * share(hits, count).value,
                     100.0 * interval.low, 100.0 * interval.high);
}

std::string final_accuracy(std::int64_t hits, std::int64_t count) {
  const Interval interval = wilson_95(hits, count);
  return fmt::format("\nFinal accuracy: {:.2f} % [{:.2f} %, {:.2f} %] (95 %), {} of {}\n",
                     100.0 * share(hits, count).value, 100.0 * interval.low, 100.0 * interval.high, hits,
                     count);
}

std::string time_estimate(double seconds_per_pass, double passes) {
  const double total = seconds_per_pass * passes;
  const double hours = std::floor(total / 3600.0);
  std::string text = fmt::format("{:.2f} seconds per pass - ETA ", seconds_per_pass);
  if (hours > 0.0) text += fmt::format("{:.0f} hours ", hours);
  return text + fmt::format("{:.2f} minutes", (total - 3600.0 * hours) / 60.0);
}

}  // namespace cga::cli
