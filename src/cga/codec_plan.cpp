#include "cga/codec_plan.h"

#include <cmath>
#include <queue>

namespace cga {
namespace {

struct Width {
  std::uint8_t bits;
  double distortion;  // mean squared error of a quantiser of a unit Gaussian
};
constexpr Width widths[] = {{0, 1.0}, {1, 0.3634}, {2, 0.1175}, {4, 0.009497}, {8, 0.000155}};
constexpr std::size_t n_widths = std::size(widths);

/// A block's next widening and what it gains for each bit.
struct Step {
  double gain = 0;
  std::size_t block = 0;
  std::size_t from = 0;  // index into widths

  int bits() const { return widths[from + 1].bits - widths[from].bits; }
  /// For the queue: the largest gain first, ties to the lower block.
  bool operator<(const Step& other) const {
    return gain != other.gain ? gain < other.gain : block > other.block;
  }
};

double mean(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += double{value};
  return sum / static_cast<double>(values.size());
}

}  // namespace

std::vector<std::uint8_t> plan_bits(std::span<const float> variance, std::int64_t n, std::int64_t w,
                                    double rate) {
  const std::size_t n_blocks = variance.size() / block_components;
  std::vector<double> means(n_blocks);
  std::vector<std::uint8_t> bits(n_blocks, 0);
  std::priority_queue<Step> steps;
  const auto offer = [&](std::size_t block, std::size_t from) {
    if (from + 1 == n_widths) return;
    const bool wide = static_cast<std::int64_t>(block) * block_components < w;
    if (widths[from + 1].bits == 8 && !wide) return;
    Step step{.gain = 0, .block = block, .from = from};
    step.gain = means[block] * (widths[from].distortion - widths[from + 1].distortion) / step.bits();
    steps.push(step);
  };
  for (std::size_t block = 0; block < n_blocks; ++block) {
    means[block] = mean(variance.subspan(block * block_components, block_components));
    offer(block, 0);
  }
  double left = std::floor(rate * static_cast<double>(n));
  while (!steps.empty()) {
    const Step step = steps.top();
    steps.pop();
    const double cost = static_cast<double>(block_components * step.bits());
    if (cost > left) continue;  // the block has ended its growth
    left -= cost;
    bits[step.block] = widths[step.from + 1].bits;
    offer(step.block, step.from + 1);
  }
  return bits;
}

LatentLayout plan_layout(const LatentView& group, double rate) {
  return LatentLayout(plan_bits({group.variance, static_cast<std::size_t>(group.m)}, group.n, group.w, rate));
}

}  // namespace cga
