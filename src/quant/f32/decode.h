// F32 blocks to floats.
#pragma once

#include "base/host_device.h"
#include "quant/f32/block.h"

namespace cga {

CGA_HOST_DEVICE inline void decode_block(const BlockF32& block, float* out) {
  *out = block.value;
}

}  // namespace cga
