// What the kernels of the latent codec are given. All pointers are device memory; lists are put there by the
// caller. Shapes of x, out and coded are those of kernels/ops.h.
#pragma once

#include <cuda_fp16.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/latent/plan.h"
#include "kernels/ops.h"

namespace cga::cuda {

/// Levels and the borders between them, for widths 1, 2 and 4 at [0], [1] and [2]. Unused places hold
/// infinity.
struct LatentTables {
  float levels[3][16];
  float borders[3][16];  // borders[.][i] lies between levels i and i + 1
};

/// A prepared transform. All is multiplied by one power of two that brings what a component is reconstructed
/// to into the range of f16 (prepare.cpp).
struct LatentData {
  std::int32_t n = 0, m = 0, w = 0;
  const float* mean = nullptr;            // [n], f32
  const float* scale = nullptr;           // [n], f32
  const float* inverse_scale = nullptr;   // [n], f32: 1 / (scale · power)
  const float* factor = nullptr;          // [n / 128, m], f32: deviation · (scale of the basis) · power
  const float* inverse_factor = nullptr;  // [m], f32: 1 / (deviation² · power)
  const std::uint16_t* wide = nullptr;    // [n / 32, w / 16] parts of 512, f16 (pack.h)
  const std::uint8_t* narrow = nullptr;   // [n / 32, (m - w) / 16] parts of 512, i8 + 128
  const LatentTables* tables = nullptr;   // [1]
};

struct DecodeUnitsArgs {
  LatentData latent;
  const CodedBlock* blocks = nullptr;  // [n_blocks]
  std::int32_t n_blocks = 0;
  const std::byte* coded = nullptr;  // [any, 4, unit_bytes], bytes
  std::int64_t unit_bytes = 0;
  const std::int32_t* units = nullptr;  // [n_units]
  std::int32_t n_units = 0;
  const Piece* pieces = nullptr;  // [n_pieces], as wide as `shape` says
  std::int32_t n_pieces = 0;
  DecodeShape shape;
  float* out = nullptr;  // [n_units, 16, row], f32
  std::int64_t row = 0;
};

/// Rows on their way into codes: z = scale · (x - mean), times a power of two of each row, as the sum of two
/// f16.
struct SplitRows {
  __half* high = nullptr;  // [n_rows, n], f16
  __half* low = nullptr;   // [n_rows, n], f16
  float* power = nullptr;  // [n_rows], f32
};

struct EncodeArgs {
  LatentData latent;
  const CodedBlock* blocks = nullptr;  // [n_blocks], those of wide components first
  std::int32_t n_blocks = 0, n_wide = 0;
  const float* x = nullptr;    // [n_units, 16, n], f32
  std::byte* coded = nullptr;  // [any, 4, unit_bytes], bytes
  std::int64_t unit_bytes = 0;
  const std::int32_t* units = nullptr;  // [n_units], four of each page
  std::int32_t n_units = 0;
  const Piece* pieces = nullptr;  // [n / 64]: all channels, for what wide components reconstruct to
  std::byte* scratch = nullptr;   // [encode_scratch_bytes(n)], bytes, 256-byte aligned
};

/// What gather and scatter share. Vector v of a row, of head_dim channels, is of plane v / (n_layers *
/// n_kv_heads), then of layer and head in order.
struct FrameArgs {
  std::byte* const* bases = nullptr;   // [n_layers], of pages
  std::byte* const* scales = nullptr;  // [n_layers], of i8, bytes
  std::int32_t n_layers = 0;
  KvLayout layout;
  RopePairs pairs = RopePairs::halves;
  float magnitude = 1.0f;
  const std::int32_t* ids = nullptr;  // [n], page ids, or unit ids
  std::int32_t n = 0;
  const float* cos_sin = nullptr;  // [n, 2, head_dim/2], f32
};

}  // namespace cga::cuda
