// Q5_0 blocks to codes; decode_block (quant/block_type.h) turns those into floats.
#pragma once

#include "base/half.h"
#include "base/host_device.h"
#include "quant/block_type.h"
#include "quant/nibbles.h"
#include "quant/q5_0/block.h"

namespace cga {

/// @param q      [32]
/// @param scale  [1]
/// @param min    [1], always 0
CGA_HOST_DEVICE inline void block_codes(const BlockQ5_0& block, std::uint8_t* q, float* scale, float* min) {
  unpack_nibbles(block.packed, q);
  unpack_fifth_bits(block.high, q);
  *scale = f16_to_f32(block.scale);
  *min = 0.0f;
}

}  // namespace cga
