// Q4_1 blocks to codes; decode_block (quant/block_type.h) turns those into floats.
#pragma once

#include "base/half.h"
#include "base/host_device.h"
#include "quant/block_type.h"
#include "quant/nibbles.h"
#include "quant/q4_1/block.h"

namespace cga {

/// @param q      [32]
/// @param scale  [1]
/// @param min    [1]
CGA_HOST_DEVICE inline void block_codes(const BlockQ4_1& block, std::uint8_t* q, float* scale, float* min) {
  unpack_nibbles(block.packed, q);
  *scale = f16_to_f32(block.scale);
  *min = -f16_to_f32(block.low);
}

}  // namespace cga
