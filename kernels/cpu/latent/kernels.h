// The seam between the loops over threads (encode.cpp, decode.cpp) and the code compiled once for each
// instruction set (simd.cpp).
//
// Tokens travel in units of 16: a matrix of them is [rows, 16], so that a vector holds tokens and every
// multiplier is one element of the basis. Each token's sums then run in one order, whoever its neighbours
// are. The basis is expanded to f32, a cache-sized part at a time, and used for all units of a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/latent/tiles.h"
#include "tensor/latent_layout.h"

namespace cga::cpu {

inline constexpr std::int64_t max_units = 16;  // of a kernel call: their sums stay in a core's L2

/// Tiles that are expanded together: along the channels for a projection, along the components for a
/// reconstruction. 128 or 256 products in a row pay for loading and storing the sums.
inline constexpr std::int64_t tiles_at_once = 2;
/// Expanded rows are a line longer than their data, so that they do not share cache sets.
inline constexpr std::int64_t row_padding = 16;
inline constexpr std::int64_t expanded_floats =
    tiles_at_once * block_components * (tile_channels + row_padding);

/// y = U z for one block of 64 components.
struct Projection {
  BasisTiles basis;
  std::int64_t block = 0;
  std::int64_t n_units = 0;
  const float* z = nullptr;   // [n_units, n, 16]
  float* y = nullptr;         // [n_units, 64, 16]
  float* expanded = nullptr;  // [expanded_floats], scratch
};
void project(const Projection& work);

/// z += Uᵀ y for some channels of one tile.
struct Reconstruction {
  BasisTiles basis;
  std::span<const LatentLayout::Block> blocks;  // the components of y
  std::int64_t first_channel = 0;
  std::int64_t n_channels = 0;  // to the end of their tile at most
  std::int64_t n_units = 0;
  const float* y = nullptr;  // [n_units, 64 * blocks.size(), 16]
  float* z = nullptr;        // [n_units] of [n_channels, 16], z_stride floats apart
  std::int64_t z_stride = 0;
  float* expanded = nullptr;  // [expanded_floats], scratch
};
void reconstruct(const Reconstruction& work);

/// Where codes change: value v has code |{i : v > at[i]}|, so a tie goes to the lower code.
struct Thresholds {
  int count = 0;
  float at[15] = {};
};

/// Codes one block of one unit.
/// @param y           [64, 16], f32
/// @param deviation   [64], f32
/// @param thresholds  of `bits`; not used for 8
/// @param packed      [64, 2 · bits], bytes
void quantise_block(const float* y, const float* deviation, std::int32_t bits, const Thresholds& thresholds,
                    std::byte* packed);

}  // namespace cga::cpu
