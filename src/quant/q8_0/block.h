// Q8_0: 32 values of 8 bits with one scale: w = scale * code.
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockQ8_0 {
  static constexpr int values = 32;
  static constexpr IntegerForm integer{.bits = 8, .group = 32, .zero = 128, .has_min = false};

  std::uint16_t scale;   // f16
  std::int8_t code[32];  // q - 128
};
static_assert(sizeof(BlockQ8_0) == 34);

void encode_block(const float* values, BlockQ8_0& block);  // values: [32]

}  // namespace cga
