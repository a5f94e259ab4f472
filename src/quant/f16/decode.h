// F16 blocks to floats.
#pragma once

#include "base/half.h"
#include "base/host_device.h"
#include "quant/f16/block.h"

namespace cga {

CGA_HOST_DEVICE inline void decode_block(const BlockF16& block, float* out) {
  *out = f16_to_f32(block.bits);
}

}  // namespace cga
