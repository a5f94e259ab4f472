// Q6_K blocks to codes; decode_block (quant/block_type.h) turns those into floats.
#pragma once

#include "base/half.h"
#include "base/host_device.h"
#include "quant/block_type.h"
#include "quant/q6_k/block.h"

namespace cga {

/// @param q      [256]
/// @param scale  [16]
/// @param min    [16], always 0
CGA_HOST_DEVICE inline void block_codes(const BlockQ6_K& block, std::uint8_t* q, float* scale, float* min) {
  for (int h = 0; h < 2; ++h) {
    const std::uint8_t* low = block.low + 64 * h;
    const std::uint8_t* high = block.high + 32 * h;
    std::uint8_t* half = q + 128 * h;
    for (int i = 0; i < 32; ++i) {
      half[i] = static_cast<std::uint8_t>((low[i] & 15) | (high[i] & 3) << 4);
      half[i + 32] = static_cast<std::uint8_t>((low[i + 32] & 15) | (high[i] >> 2 & 3) << 4);
      half[i + 64] = static_cast<std::uint8_t>((low[i] >> 4) | (high[i] >> 4 & 3) << 4);
      half[i + 96] = static_cast<std::uint8_t>((low[i + 32] >> 4) | (high[i] >> 6) << 4);
    }
  }
  const float factor = f16_to_f32(block.factor);
  for (int g = 0; g < 16; ++g) {
    scale[g] = factor * static_cast<float>(block.scale[g]);
    min[g] = 0.0f;
  }
}

}  // namespace cga
