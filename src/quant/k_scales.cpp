// Encoding for Q4_K and Q5_K: each group's range gives its scale and minimum; the largest of each over the
// block sets the factor, so that 6 bits cover all of them.
#include "quant/k_scales.h"

#include <algorithm>

#include "quant/nearest.h"

namespace cga {
namespace {

constexpr int n_groups = 8, group = 32, top = 63;

/// Rounds eight non-negative numbers to `factor` * 0..63. @return the factor as f16
std::uint16_t nearest_six_bits(const float* numbers, std::uint8_t* codes) {
  const std::uint16_t factor = f32_to_f16(*std::max_element(numbers, numbers + n_groups) / top);
  const float per_step = inverse(f16_to_f32(factor));
  for (int g = 0; g < n_groups; ++g) codes[g] = nearest_code(numbers[g] * per_step, top);
  return factor;
}

void pack(const std::uint8_t* scale, const std::uint8_t* min, std::uint8_t* packed) {
  for (int g = 0; g < 4; ++g) {
    packed[g] = static_cast<std::uint8_t>(scale[g] | (scale[g + 4] >> 4 << 6));
    packed[g + 4] = static_cast<std::uint8_t>(min[g] | (min[g + 4] >> 4 << 6));
    packed[g + 8] = static_cast<std::uint8_t>((scale[g + 4] & 15) | (min[g + 4] << 4));
  }
}

}  // namespace

KFactors encode_k(const float* values, int levels, std::uint8_t* q) {
  float scale[n_groups], min[n_groups];
  for (int g = 0; g < n_groups; ++g) {
    const auto [low, high] = range_of(values + g * group, group);
    min[g] = std::max(0.0f, -low);  // a group cannot start above zero
    scale[g] = std::max(0.0f, high + min[g]) / static_cast<float>(levels - 1);
  }
  KFactors factors{};
  std::uint8_t scale_codes[n_groups], min_codes[n_groups];
  factors.scale = nearest_six_bits(scale, scale_codes);
  factors.min = nearest_six_bits(min, min_codes);
  pack(scale_codes, min_codes, factors.packed);

  unpack_k_scales(factors, scale, min);
  for (int g = 0; g < n_groups; ++g) {
    const float per_step = inverse(scale[g]);
    for (int i = g * group; i < (g + 1) * group; ++i) {
      q[i] = nearest_code((values[i] + min[g]) * per_step, levels - 1);
    }
  }
  return factors;
}

}  // namespace cga
