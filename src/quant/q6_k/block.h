// Q6_K: 256 values of 6 bits in groups of 16: w = factor * scale[group] * (q - 32).
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockQ6_K {
  static constexpr int values = 256;
  static constexpr IntegerForm integer{.bits = 6, .group = 16, .zero = 32, .has_min = false};

  // Each half of the values, 128h to 128h + 127, has 64 bytes of low bits and 32 bytes of high bits.
  std::uint8_t low[128];  // byte 64h + i, i < 64: value 128h + i (low nibble), 128h + 64 + i (high nibble)
  std::uint8_t high[64];  // byte 32h + i, bits 2c and 2c + 1: bits 4 and 5 of value 128h + 32c + i
  std::int8_t scale[16];
  std::uint16_t factor;  // f16
};
static_assert(sizeof(BlockQ6_K) == 210);

void encode_block(const float* values, BlockQ6_K& block);  // values: [256]

}  // namespace cga
