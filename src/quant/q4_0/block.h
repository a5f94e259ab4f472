// Q4_0: 32 values of 4 bits with one scale: w = scale * (q - 8).
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockQ4_0 {
  static constexpr int values = 32;
  static constexpr IntegerForm integer{.bits = 4, .group = 32, .zero = 8, .has_min = false};

  std::uint16_t scale;      // f16
  std::uint8_t packed[16];  // quant/nibbles.h
};
static_assert(sizeof(BlockQ4_0) == 18);

void encode_block(const float* values, BlockQ4_0& block);  // values: [32]

}  // namespace cga
