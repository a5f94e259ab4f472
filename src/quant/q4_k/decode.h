// Q4_K blocks to codes; decode_block (quant/block_type.h) turns those into floats.
#pragma once

#include "base/half.h"
#include "base/host_device.h"
#include "quant/block_type.h"
#include "quant/q4_k/block.h"

namespace cga {

/// @param q      [256]
/// @param scale  [8]
/// @param min    [8]
CGA_HOST_DEVICE inline void block_codes(const BlockQ4_K& block, std::uint8_t* q, float* scale, float* min) {
  unpack_k_scales(block.factors, scale, min);
  unpack_k_nibbles(block.packed, q);
}

}  // namespace cga
