// The packing Q4_0, Q4_1, Q5_0 and Q5_1 share: byte i holds the low four bits of values i and i + 16; fifth
// bits, where there are any, are one little-endian word with bit i for value i.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace cga {

/// @param packed  [16]
/// @param q       [32]
CGA_HOST_DEVICE inline void unpack_nibbles(const std::uint8_t* packed, std::uint8_t* q) {
  for (int i = 0; i < 16; ++i) {
    q[i] = packed[i] & 0x0f;
    q[i + 16] = packed[i] >> 4;
  }
}

/// Only the low four bits of q are packed.
inline void pack_nibbles(const std::uint8_t* q, std::uint8_t* packed) {
  for (int i = 0; i < 16; ++i) packed[i] = static_cast<std::uint8_t>((q[i] & 0x0f) | (q[i + 16] << 4));
}

/// Adds bit i of `high` to q[i] as 16.
/// @param high  [4]
/// @param q     [32]
CGA_HOST_DEVICE inline void unpack_fifth_bits(const std::uint8_t* high, std::uint8_t* q) {
  for (int i = 0; i < 32; ++i) {
    q[i] = static_cast<std::uint8_t>(q[i] | ((high[i / 8] >> (i % 8) & 1) << 4));
  }
}

inline void pack_fifth_bits(const std::uint8_t* q, std::uint8_t* high) {
  for (int byte = 0; byte < 4; ++byte) {
    int bits = 0;
    for (int i = 0; i < 8; ++i) bits |= (q[byte * 8 + i] >> 4 & 1) << i;
    high[byte] = static_cast<std::uint8_t>(bits);
  }
}

}  // namespace cga
