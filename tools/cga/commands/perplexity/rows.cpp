// Rows of logits; see the header. Exponentials are f32, sums are f64: a vocabulary of 150,000 entries would
// lose three digits of an f32 sum.
#include "tools/cga/commands/perplexity/rows.h"

#include <algorithm>
#include <cmath>

namespace cga::cli {
namespace {

constexpr double coded_range = 40.0;  // nats below the maximum that codes reach
constexpr double last_code = 65535.0;

/// Compares a row with a base's, of which is known: its nll, its likeliest token, and below_maximum(i), what
/// logit i is beside the largest (0 or less).
template <class BelowMaximum>
RowComparison compare(std::span<const float> logits, TokenId target, double nll_base, std::int32_t top_base,
                      const BelowMaximum& below_maximum) {
  const RowSummary row = summarize_row(logits);
  // With b = base logit - its maximum and m = logit - maximum:
  //   KL(base ‖ model) = Σ p_b (b - m) - log Σ exp(b) + log Σ exp(m)
  double mass = 0.0, weighted = 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const auto b = below_maximum(i);
    const double weight = double{std::exp(static_cast<float>(b))};
    mass += weight;
    weighted += weight * (double{b} - (double{logits[i]} - row.maximum));
  }
  RowComparison out;
  out.nll = row.log_sum + row.maximum - double{logits[static_cast<std::size_t>(target)]};
  out.nll_base = nll_base;
  out.kld = weighted / mass - std::log(mass) + row.log_sum;
  out.p_diff = std::exp(-out.nll) - std::exp(-nll_base);
  out.same_top = row.top == top_base;
  return out;
}

}  // namespace

RowSummary summarize_row(std::span<const float> logits) {
  const auto [low, high] = std::minmax_element(logits.begin(), logits.end());
  const auto top =
      std::max_element(logits.begin(), logits.end());  // the first of equals; minmax gives the last
  const float maximum = *high;
  double sum = 0.0;
  for (const float logit : logits) sum += double{std::exp(logit - maximum)};
  return {double{maximum}, std::log(sum), *low, static_cast<std::int32_t>(top - logits.begin())};
}

double negative_log_likelihood(std::span<const float> logits, TokenId target) {
  const RowSummary row = summarize_row(logits);
  return row.log_sum + row.maximum - double{logits[static_cast<std::size_t>(target)]};
}

CodedRowHead encode_row(std::span<const float> logits, TokenId target, std::span<std::uint16_t> codes) {
  const RowSummary row = summarize_row(logits);
  const double range = std::min(row.maximum - double{row.minimum}, coded_range);
  CodedRowHead head;
  head.nll = row.log_sum + row.maximum - double{logits[static_cast<std::size_t>(target)]};
  head.step = static_cast<float>(range / last_code);
  head.top = row.top;
  if (!std::isfinite(head.nll)) return head;  // a damaged row, for the caller to refuse; NaN has no code
  const double per_step = head.step > 0.0f ? 1.0 / double{head.step} : 0.0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const double steps = (row.maximum - double{logits[i]}) * per_step + 0.5;
    codes[i] = static_cast<std::uint16_t>(std::min(steps, last_code));
  }
  return head;
}

RowComparison compare_row(std::span<const float> logits, TokenId target, const CodedRowHead& base,
                          std::span<const std::uint16_t> codes) {
  return compare(logits, target, base.nll, base.top,
                 [&](std::size_t i) { return -base.step * static_cast<float>(codes[i]); });
}

RowComparison compare_row(std::span<const float> logits, TokenId target, std::span<const float> base) {
  const RowSummary row = summarize_row(base);
  const double nll = row.log_sum + row.maximum - double{base[static_cast<std::size_t>(target)]};
  return compare(logits, target, nll, row.top, [&](std::size_t i) { return double{base[i]} - row.maximum; });
}

}  // namespace cga::cli
