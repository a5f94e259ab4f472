// Q4_1: 32 values of 4 bits with a scale and a lowest value: w = scale * q + low.
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockQ4_1 {
  static constexpr int values = 32;
  static constexpr IntegerForm integer{.bits = 4, .group = 32, .zero = 0, .has_min = true};

  std::uint16_t scale;      // f16
  std::uint16_t low;        // f16
  std::uint8_t packed[16];  // quant/nibbles.h
};
static_assert(sizeof(BlockQ4_1) == 20);

void encode_block(const float* values, BlockQ4_1& block);  // values: [32]

}  // namespace cga
