// Q5_K blocks to codes; decode_block (quant/block_type.h) turns those into floats.
#pragma once

#include "base/half.h"
#include "base/host_device.h"
#include "quant/block_type.h"
#include "quant/q5_k/block.h"

namespace cga {

/// @param q      [256]
/// @param scale  [8]
/// @param min    [8]
CGA_HOST_DEVICE inline void block_codes(const BlockQ5_K& block, std::uint8_t* q, float* scale, float* min) {
  unpack_k_scales(block.factors, scale, min);
  unpack_k_nibbles(block.packed, q);
  for (int g = 0; g < 8; ++g) {
    for (int i = 0; i < 32; ++i) {
      q[32 * g + i] = static_cast<std::uint8_t>(q[32 * g + i] | ((block.high[i] >> g & 1) << 4));
    }
  }
}

}  // namespace cga
