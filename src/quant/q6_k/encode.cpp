// Q6_K encoding: each group's value of largest magnitude sets its scale; the largest scale sets the factor.
#include <algorithm>
#include <cmath>

#include "quant/nearest.h"
#include "quant/q6_k/block.h"

namespace cga {
namespace {

constexpr int n_groups = 16, group = 16, zero = 32, top = 63;

/// Fills block.factor and block.scale.
void choose_scales(const float* values, BlockQ6_K& block) {
  float scale[n_groups];
  for (int g = 0; g < n_groups; ++g) scale[g] = extreme(values + g * group, group) / -zero;
  block.factor = f32_to_f16(std::fabs(extreme(scale, n_groups)) / 127.0f);
  const float per_step = inverse(f16_to_f32(block.factor));
  for (int g = 0; g < n_groups; ++g) {
    block.scale[g] = static_cast<std::int8_t>(nearest_code(scale[g] * per_step + 127.0f, 254) - 127);
  }
}

void pack(const std::uint8_t* q, BlockQ6_K& block) {
  for (int h = 0; h < 2; ++h) {
    const std::uint8_t* half = q + 128 * h;
    for (int i = 0; i < 64; ++i) {
      block.low[64 * h + i] = static_cast<std::uint8_t>((half[i] & 15) | (half[i + 64] & 15) << 4);
    }
    for (int i = 0; i < 32; ++i) {
      int bits = 0;
      for (int c = 0; c < 4; ++c) bits |= (half[32 * c + i] >> 4) << (2 * c);
      block.high[32 * h + i] = static_cast<std::uint8_t>(bits);
    }
  }
}

}  // namespace

void encode_block(const float* values, BlockQ6_K& block) {
  choose_scales(values, block);
  std::uint8_t q[256];
  const float factor = f16_to_f32(block.factor);
  for (int g = 0; g < n_groups; ++g) {
    const float per_step = inverse(factor * static_cast<float>(block.scale[g]));
    for (int i = g * group; i < (g + 1) * group; ++i) {
      q[i] = nearest_code(values[i] * per_step + static_cast<float>(zero), top);
    }
  }
  pack(q, block);
}

}  // namespace cga
