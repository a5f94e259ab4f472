// BF16 blocks to floats.
#pragma once

#include "base/half.h"
#include "base/host_device.h"
#include "quant/bf16/block.h"

namespace cga {

CGA_HOST_DEVICE inline void decode_block(const BlockBF16& block, float* out) {
  *out = bf16_to_f32(block.bits);
}

}  // namespace cga
