// Q4_K: 256 values of 4 bits in groups of 32: w = scale[group] * q - min[group].
#pragma once

#include <cstdint>

#include "quant/k_scales.h"
#include "quant/weight_type.h"

namespace cga {

struct BlockQ4_K {
  static constexpr int values = 256;
  static constexpr IntegerForm integer{.bits = 4, .group = 32, .zero = 0, .has_min = true};

  KFactors factors;          // scales and minima of the 8 groups
  std::uint8_t packed[128];  // low four bits, quant/k_scales.h
};
static_assert(sizeof(BlockQ4_K) == 144);

void encode_block(const float* values, BlockQ4_K& block);  // values: [256]

}  // namespace cga
