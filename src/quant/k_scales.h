// What Q4_K and Q5_K share (besides the packing of the low bits): 256 values in 8 groups of 32, each group
// with a 6-bit scale and a 6-bit minimum packed into 12 bytes, which two f16 factors of the block multiply.
//
//   byte 0..3    scale of group 0..3 in the low six bits; top bits: bits 4,5 of the scale of group 4..7
//   byte 4..7    minimum of group 0..3;                   top bits: bits 4,5 of the minimum of group 4..7
//   byte 8..11   low four bits of group 4..7: scale in the low nibble, minimum in the high one
#pragma once

#include <cstdint>

#include "base/half.h"
#include "base/host_device.h"

namespace cga {

struct KFactors {
  std::uint16_t scale, min;  // f16
  std::uint8_t packed[12];
};

/// @param scale  [8], the groups' scales
/// @param min    [8], what is subtracted from each group
CGA_HOST_DEVICE inline void unpack_k_scales(const KFactors& factors, float* scale, float* min) {
  const std::uint8_t* p = factors.packed;
  const float scale_factor = f16_to_f32(factors.scale);
  const float min_factor = f16_to_f32(factors.min);
  for (int g = 0; g < 4; ++g) {
    scale[g] = scale_factor * static_cast<float>(p[g] & 63);
    min[g] = min_factor * static_cast<float>(p[g + 4] & 63);
    scale[g + 4] = scale_factor * static_cast<float>((p[g + 8] & 15) | (p[g] >> 6 << 4));
    min[g + 4] = min_factor * static_cast<float>((p[g + 8] >> 4) | (p[g + 4] >> 6 << 4));
  }
}

/// The low four bits of 256 codes: byte 32c + i holds values 64c + i (low nibble) and 64c + 32 + i (high).
/// @param packed  [128]
/// @param q       [256]
CGA_HOST_DEVICE inline void unpack_k_nibbles(const std::uint8_t* packed, std::uint8_t* q) {
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 32; ++i) {
      q[64 * c + i] = packed[32 * c + i] & 15;
      q[64 * c + 32 + i] = packed[32 * c + i] >> 4;
    }
  }
}

inline void pack_k_nibbles(const std::uint8_t* q, std::uint8_t* packed) {
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 32; ++i) {
      packed[32 * c + i] = static_cast<std::uint8_t>((q[64 * c + i] & 15) | (q[64 * c + 32 + i] << 4));
    }
  }
}

/// Chooses scales and minima for 256 values, and the nearest codes for them as stored.
/// @param levels  codes a value can have: 16 or 32
/// @param q       [256]
KFactors encode_k(const float* values, int levels, std::uint8_t* q);

}  // namespace cga
