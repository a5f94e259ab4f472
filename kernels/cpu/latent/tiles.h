// How the basis lies in memory while it is multiplied. A sidecar has rows of components, n bytes each; both
// products want a few dozen of them by a few dozen channels at a time, and reading those from rows costs a
// page-table walk a row. So the basis is cut into tiles of 64 components by 128 channels, in large pages:
//
//   wide tile     [64][128] f16                                                        16,384 bytes
//   other tile    [64] f16 scales, [64] i16 factors, [8 panels][32 pairs][16][2] i8     8,448 bytes
//
// Tiles of one block of components follow each other along the channels, blocks along the components: coding
// reads one stream, decoding some channels reads whole panels. A scale serves the 128 channels of its tile.
// Decoding multiplies integers, two components at once: so pairs of them lie together, channel by channel, 16
// channels a panel. A component's factor is its scale times its deviation, as a share of the tile's (or
// segment's) largest.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tensor/latent_layout.h"
#include "tensor/latent_view.h"

namespace cga::cpu {

inline constexpr std::int64_t tile_channels = basis_scale_channels;
inline constexpr std::int64_t wide_tile_bytes = block_components * tile_channels * 2;
inline constexpr std::int64_t scale_bytes = block_components * 2;
inline constexpr std::int64_t factor_bytes = block_components * 2;
inline constexpr std::int64_t tile_bytes = scale_bytes + factor_bytes + block_components * tile_channels;
inline constexpr std::int64_t tile_slack = 64;  // bytes behind the last tile that a vector load may touch
inline constexpr std::int64_t panel_channels = 16;
inline constexpr std::int64_t block_pairs = block_components / 2;
inline constexpr std::int64_t panel_bytes = block_components * panel_channels;
inline constexpr std::int64_t block_segments = 4;
inline constexpr std::int64_t segment_pairs = block_pairs / block_segments;

struct BasisTiles {
  const std::byte* data = nullptr;
  /// What an integer of y is worth, levels being ±1.  [blocks - n_wide, n_parts, 4 segments]
  const float* steps = nullptr;
  /// Blocks whose components differ a lot are added up in segments, each with a scale of its own.
  const std::uint8_t* segmented = nullptr;  // [blocks - n_wide], 0 or 1
  std::int64_t n_wide = 0;                  // blocks of components in 16 bits, the first ones
  std::int64_t n_parts = 0;                 // n / 128

  bool is_wide(std::int64_t block) const { return block < n_wide; }
  std::int64_t offset(std::int64_t block, std::int64_t part) const {
    if (is_wide(block)) return (block * n_parts + part) * wide_tile_bytes;
    return n_wide * n_parts * wide_tile_bytes + ((block - n_wide) * n_parts + part) * tile_bytes;
  }
  const std::byte* tile(std::int64_t block, std::int64_t part) const { return data + offset(block, part); }
  const float* steps_of(std::int64_t block, std::int64_t part) const {
    return steps + ((block - n_wide) * n_parts + part) * block_segments;
  }
  std::int64_t n_segments(std::int64_t block) const {
    return segmented[block - n_wide] != 0 ? block_segments : 1;
  }
};

}  // namespace cga::cpu
