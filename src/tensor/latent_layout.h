// How a page of coded tokens lies in memory. Other than pages of exact keys and values it looks alike on
// every backend: a session that was saved by one can be read by another.
//
//   page    [4] units
//   unit    16 tokens, decodable alone: for each block of 64 components that has bits, its codes
//   block   [64] components of 2·b bytes: the b-bit codes of 16 tokens, little-endian, token 0 lowest
//           (b = 8: a byte a token; b = 1: a 16-bit mask)
//
// A block takes 128·b bytes and a unit a multiple of 128, so that with an aligned page every unit begins at a
// cache line. Components of one block share a width; blocks follow in order of components, those without bits
// left out. A unit id is 4 · (page id) + (unit in page): unit ids count through a pool of pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tensor/kv_layout.h"

namespace cga {

inline constexpr std::int64_t block_components = 64;
inline constexpr std::int32_t page_units = page_tokens / unit_tokens;

class LatentLayout {
 public:
  struct Block {
    std::int64_t first_component = 0;
    std::int32_t bits = 0;         // 1, 2, 4 or 8
    std::int64_t unit_offset = 0;  // of its bytes in a unit

    std::int64_t component_bytes() const { return std::int64_t{unit_tokens} * bits / 8; }
  };

  LatentLayout() = default;
  /// @param bits  [m / 64]: the width of each block, 0, 1, 2, 4 or 8
  explicit LatentLayout(std::span<const std::uint8_t> bits) : bits_(bits.begin(), bits.end()) {
    for (std::size_t i = 0; i < bits.size(); ++i) {
      if (bits[i] == 0) continue;
      blocks_.push_back({static_cast<std::int64_t>(i) * block_components, bits[i], unit_bytes_});
      unit_bytes_ += block_components * blocks_.back().component_bytes();
    }
  }

  std::span<const std::uint8_t> bits() const { return bits_; }  // [m / 64]
  std::span<const Block> blocks() const { return blocks_; }     // those with bits
  std::int64_t unit_bytes() const { return unit_bytes_; }
  std::int64_t page_bytes() const { return page_units * unit_bytes_; }
  std::int64_t bits_per_token() const { return 8 * unit_bytes_ / unit_tokens; }

 private:
  std::vector<std::uint8_t> bits_;
  std::vector<Block> blocks_;
  std::int64_t unit_bytes_ = 0;
};

/// One component's codes of a unit, with the width known when compiled.
template <int bits>
void pack_codes(const std::uint8_t* codes, std::byte* packed) {
  constexpr int per_byte = 8 / bits;
  for (int i = 0; i < unit_tokens / per_byte; ++i) {
    unsigned byte = 0;
    for (int k = 0; k < per_byte; ++k) byte |= unsigned{codes[i * per_byte + k]} << (k * bits);
    packed[i] = static_cast<std::byte>(byte);
  }
}

template <int bits>
void unpack_codes(const std::byte* packed, std::uint8_t* codes) {
  constexpr int per_byte = 8 / bits;
  constexpr unsigned mask = (1u << bits) - 1;
  for (int t = 0; t < unit_tokens; ++t) {
    const auto byte = std::to_integer<unsigned>(packed[t / per_byte]);
    codes[t] = static_cast<std::uint8_t>(byte >> (t % per_byte * bits) & mask);
  }
}

/// The same for any width.  codes: [16]; packed: [2 · bits], bytes
inline void pack_codes(const std::uint8_t* codes, std::int32_t bits, std::byte* packed) {
  bits == 1   ? pack_codes<1>(codes, packed)
  : bits == 2 ? pack_codes<2>(codes, packed)
  : bits == 4 ? pack_codes<4>(codes, packed)
              : pack_codes<8>(codes, packed);
}

inline void unpack_codes(const std::byte* packed, std::int32_t bits, std::uint8_t* codes) {
  bits == 1   ? unpack_codes<1>(packed, codes)
  : bits == 2 ? unpack_codes<2>(packed, codes)
  : bits == 4 ? unpack_codes<4>(packed, codes)
              : unpack_codes<8>(packed, codes);
}

}  // namespace cga
