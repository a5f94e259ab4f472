// Q5_0: 32 values of 5 bits with one scale: w = scale * (q - 16).
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockQ5_0 {
  static constexpr int values = 32;
  static constexpr IntegerForm integer{.bits = 5, .group = 32, .zero = 16, .has_min = false};

  std::uint16_t scale;      // f16
  std::uint8_t high[4];     // fifth bits, quant/nibbles.h
  std::uint8_t packed[16];  // low four bits
};
static_assert(sizeof(BlockQ5_0) == 22);

void encode_block(const float* values, BlockQ5_0& block);  // values: [32]

}  // namespace cga
