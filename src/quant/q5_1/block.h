// Q5_1: 32 values of 5 bits with a scale and a lowest value: w = scale * q + low.
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockQ5_1 {
  static constexpr int values = 32;
  static constexpr IntegerForm integer{.bits = 5, .group = 32, .zero = 0, .has_min = true};

  std::uint16_t scale;      // f16
  std::uint16_t low;        // f16
  std::uint8_t high[4];     // fifth bits, quant/nibbles.h
  std::uint8_t packed[16];  // low four bits
};
static_assert(sizeof(BlockQ5_1) == 24);

void encode_block(const float* values, BlockQ5_1& block);  // values: [32]

}  // namespace cga
