// The seam between the loops over threads (encode.cpp, decode.cpp) and the code compiled once for each
// instruction set (simd.cpp).
//
// Tokens travel in units of 16: a matrix of them is [rows, 16], so that a vector holds tokens and every
// multiplier is one element of the basis; decoding has it the other way round, panels of 16 channels whose
// multipliers are tokens. Each sum then runs in one order, whoever its neighbours are. The basis is expanded,
// to f32 or to int16, a cache-sized part at a time, and used for all units of a call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/latent/tiles.h"
#include "tensor/latent_layout.h"

namespace cga::cpu {

inline constexpr std::int64_t max_units = 16;  // of a kernel call: their sums stay in a core's L2

/// Tiles that are expanded together: along the channels for a projection, along the components for wide ones
/// that are multiplied back. 128 or 256 products in a row pay for loading and storing the sums.
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

/// z += Uᵀ y for the channels of one tile and wide components.
struct Subtraction {
  BasisTiles basis;
  std::span<const LatentLayout::Block> blocks;  // the components of y, wide ones
  std::int64_t part = 0;
  std::int64_t n_units = 0;
  const float* y = nullptr;  // [n_units, 64 * blocks.size(), 16], negative
  float* z = nullptr;        // [n_units] of [128, 16], z_stride floats apart
  std::int64_t z_stride = 0;
  float* expanded = nullptr;  // [expanded_floats], scratch
};
void subtract(const Subtraction& work);

/// The levels of a width in integers, ±32767 the largest of them.
struct IntegerLevels {
  float largest = 0;  // what 32767 stands for
  std::int16_t at[256] = {};
};

/// Levels of one block of one unit.
/// @param packed  [64, 2 · bits], bytes  @param y  [32, 16, 2], i16: pairs of components, token by token
void read_levels(const std::byte* packed, std::int32_t bits, const IntegerLevels& levels, std::int16_t* y);

inline constexpr std::int64_t block_values = block_components * unit_tokens;
inline constexpr std::int64_t panel_values = panel_channels * unit_tokens;

inline constexpr std::int64_t max_decoded_units = 8;  // of a kernel call: their y stay in a core's L1

/// Memory of a thread that reconstructs.
struct ReconstructionScratch {
  alignas(64) std::int16_t y[max_decoded_units * block_values];  // levels times factors; or as bytes
  alignas(64) std::int32_t offsets[max_decoded_units * block_segments * unit_tokens];  // of sums of bytes
  alignas(64) std::int16_t panels[2 * panel_bytes];                                    // [2, 32, 16, 2]
  alignas(64) float wide[tiles_at_once * block_components * panel_channels];
  alignas(64) float z[tile_channels / panel_channels * max_decoded_units * panel_values];
};

/// z = Uᵀ y for some panels of one tile, all components.
struct Reconstruction {
  BasisTiles basis;
  std::span<const LatentLayout::Block> wide, others;
  const float* largest_levels = nullptr;  // [9]: of each width
  std::int64_t part = 0, first_panel = 0, n_panels = 0;
  std::int64_t n_units = 0;
  const float* y = nullptr;              // [n_units, wide.size(), 64, 16]
  const std::int16_t* levels = nullptr;  // [others.size(), n_units, 32, 16, 2]
  ReconstructionScratch* scratch = nullptr;

  /// scratch->z: [n_panels, n_units, 16 tokens, 16 channels]
  float* z(std::int64_t panel, std::int64_t unit) const {
    return scratch->z + (panel * n_units + unit) * panel_values;
  }
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
