// The seam between the loops over threads (encode.cpp, decode.cpp) and the code compiled once for each
// instruction set (simd.cpp).
//
// Tokens travel in tiles of 16, a unit each: a matrix of them is [rows, 16], so that a vector holds tokens
// and every multiplier is one element of the basis. Each token's sums then run in one order, whoever its
// neighbours are. The basis is expanded to f32, a cache-sized part at a time, and used for all tiles of a
// call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/latent_layout.h"
#include "tensor/latent_view.h"

namespace cga::cpu {

inline constexpr std::int64_t tile_floats_per_row = unit_tokens;
inline constexpr std::int64_t max_tiles = 16;  // of a kernel call: what stays in a core's L2

/// Channels of a projection that are multiplied with one expanded part of the basis, [64, 256] f32.
inline constexpr std::int64_t project_channels = 256;
/// Components and channels of a reconstruction, likewise, [128, 128] f32.
inline constexpr std::int64_t rebuild_components = 128, rebuild_channels = 128;
/// Floats of an expanded part: rows are a line longer than their data, so that they do not share cache sets.
inline constexpr std::int64_t basis_padding = 16;
inline constexpr std::int64_t basis_floats = rebuild_components * (rebuild_channels + basis_padding);
static_assert(basis_floats >= block_components * (project_channels + basis_padding));

/// y = U z for one block of 64 components.
struct Projection {
  const LatentView* view = nullptr;
  std::int64_t first_component = 0;
  std::int64_t n_tiles = 0;
  const float* z = nullptr;  // [n_tiles, n, 16]
  float* y = nullptr;        // [n_tiles, 64, 16]
  float* basis = nullptr;    // [basis_floats], scratch
};
void project(const Projection& work);

/// z += Uᵀ y for some channels.
struct Reconstruction {
  const LatentView* view = nullptr;
  std::span<const LatentLayout::Block> blocks;     // the components of y
  std::int64_t first_channel = 0, n_channels = 0;  // at most rebuild_channels
  std::int64_t n_tiles = 0;
  const float* y = nullptr;  // [n_tiles, 64 * blocks.size(), 16]
  float* z = nullptr;        // [n_tiles] of [n_channels, 16], z_stride floats apart
  std::int64_t z_stride = 0;
  float* basis = nullptr;  // [basis_floats], scratch
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
