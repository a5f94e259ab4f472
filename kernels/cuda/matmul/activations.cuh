// From f32 rows to what the matrix kernels read: optionally RMS-normalised, multiplied by a power of two that
// makes the largest magnitude 2^12 … 2^13 (f16 neither overflows nor loses small values), rounded to 16 bits.
// One CTA converts a row. Every kernel that needs activations calls the same function, so a row's bits are
// the same wherever it is converted.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/matmul/plan.h"
#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {

struct ActivationRow {
  const float* x = nullptr;     // [cols]
  const float* norm = nullptr;  // [cols] or null
  float eps = 0;
  int cols = 0, padded_cols = 0;
};

/// The power of two 2^e that a magnitude is divided by to lie in [2^12, 2^13); 1 for zero and non-finite.
__device__ __forceinline__ float scale_of(float magnitude) {
  if (!(magnitude > 0.0f) || !(magnitude < __int_as_float(0x7f800000))) return 1.0f;
  const int exponent = min(max(ilogbf(magnitude) - 12, -100), 100);
  return __int_as_float((exponent + 127) << 23);
}

/// Columns 8 i … 8 i + 7, zero beyond the row.
__device__ __forceinline__ void load_chunk(const float* row, int cols, int i, float (&v)[8]) {
  if (cols % 4 == 0 && 8 * i + 8 <= cols) {
    const float4 a = reinterpret_cast<const float4*>(row)[2 * i],
                 b = reinterpret_cast<const float4*>(row)[2 * i + 1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w, v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    return;
  }
#pragma unroll
  for (int k = 0; k < 8; ++k) v[k] = 8 * i + k < cols ? row[8 * i + k] : 0.0f;
}

inline constexpr int max_segments = static_cast<int>(max_cols / 256);  // of a row

/// The sum of squares and the largest magnitude over a warp, in every lane.
__device__ __forceinline__ float2 reduce_warp(float squares, float largest) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) {
    squares = __fadd_rn(squares, __shfl_xor_sync(0xffffffffu, squares, step));
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, step));
  }
  return {squares, largest};
}

struct RowFactors {
  float rms = 1.0f;    // x is multiplied by it
  float scale = 1.0f;  // rounded values times it are the activations; a power of two
};

/// Warps take segments of 256 columns in turn, then all add up the segments: an order that the number of
/// warps does not change.
/// @param scratch  [max_segments], shared
__device__ __forceinline__ RowFactors row_factors(const ActivationRow& row, float2* scratch) {
  const int lane = threadIdx.x % 32, n_chunks = row.padded_cols / 8, n_segments = (n_chunks + 31) / 32;
  for (int segment = threadIdx.x / 32; segment < n_segments; segment += blockDim.x / 32) {
    const int i = 32 * segment + lane;
    float squares = 0.0f, largest = 0.0f, v[8], w[8];
    load_chunk(row.x, row.cols, i, v);
    if (row.norm != nullptr) load_chunk(row.norm, row.cols, i, w);
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      squares = __fmaf_rn(v[k], v[k], squares);
      largest = fmaxf(largest, fabsf(row.norm != nullptr ? __fmul_rn(v[k], w[k]) : v[k]));
    }
    const float2 sums = reduce_warp(squares, largest);
    if (lane == 0) scratch[segment] = sums;
  }
  __syncthreads();
  float2 sums = {0.0f, 0.0f};
  for (int segment = lane; segment < n_segments; segment += 32) {
    sums.x = __fadd_rn(sums.x, scratch[segment].x);
    sums.y = fmaxf(sums.y, scratch[segment].y);
  }
  sums = reduce_warp(sums.x, sums.y);
  RowFactors factors;
  if (row.norm != nullptr) {
    const float mean = __fdiv_rn(sums.x, static_cast<float>(row.cols));
    factors.rms = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, row.eps)));
  }
  factors.scale = scale_of(__fmul_rn(sums.y, factors.rms));
  return factors;
}

/// Chunk i of the row, normalised and divided by the scale.
__device__ __forceinline__ void scaled_chunk(const ActivationRow& row, const RowFactors& factors, int i,
                                             float (&v)[8]) {
  load_chunk(row.x, row.cols, i, v);
  const float inverse = __int_as_float((254 << 23) - __float_as_int(factors.scale));
  if (row.norm != nullptr) {
    float w[8];
    load_chunk(row.norm, row.cols, i, w);
#pragma unroll
    for (int k = 0; k < 8; ++k) v[k] = __fmul_rn(__fmul_rn(v[k], factors.rms), w[k]);
  }
#pragma unroll
  for (int k = 0; k < 8; ++k) v[k] = __fmul_rn(v[k], inverse);
}

__device__ __forceinline__ std::uint32_t pack(__half2 v) {
  return *reinterpret_cast<std::uint32_t*>(&v);
}
__device__ __forceinline__ std::uint32_t pack(__nv_bfloat162 v) {
  return *reinterpret_cast<std::uint32_t*>(&v);
}

/// Rounds 8 values to 16 bits and leaves the rounding errors in v.
template <class Element>
__device__ __forceinline__ uint4 round_chunk(float (&v)[8]) {
  std::uint32_t words[4];
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    float2 rounded;
    if constexpr (std::is_same_v<Element, BF16>) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * k], v[2 * k + 1]);
      rounded = __bfloat1622float2(pair);
      words[k] = pack(pair);
    } else {
      const __half2 pair = __floats2half2_rn(v[2 * k], v[2 * k + 1]);
      rounded = __half22float2(pair);
      words[k] = pack(pair);
    }
    v[2 * k] = __fsub_rn(v[2 * k], rounded.x);
    v[2 * k + 1] = __fsub_rn(v[2 * k + 1], rounded.y);
  }
  return {words[0], words[1], words[2], words[3]};
}

/// Converts one row for the decode kernels (ActivationLayout).
/// @param out      [planes][padded_cols], 16-bit floats, planes plane_bytes apart
/// @param sums     [padded_cols / group][slots] at the token's slot: Σ of the rounded values * 2^-24,
///                 and -zero if there is one, with which sums of products begin
/// @param scale    one float
/// @param scratch  [max_segments], shared
template <class Tile>
__device__ __forceinline__ void convert_row(const ActivationRow& row, std::byte* out,
                                            std::int64_t plane_bytes, float* sums, int slots, float* scale,
                                            float2* scratch) {
  const RowFactors factors = row_factors(row, scratch);
  if (threadIdx.x == 0) *scale = factors.scale;
  const int n_chunks = row.padded_cols / 8;
  // Whole warps stay in the loop, since lanes add up the groups together.
  for (int first = threadIdx.x / 32 * 32; first < n_chunks; first += blockDim.x) {
    const int i = first + threadIdx.x % 32;
    float v[8] = {};
    if (i < n_chunks) scaled_chunk(row, factors, i, v);
    if constexpr (Tile::is_float) {
      using Element = typename Tile::element;
      const uint4 high = round_chunk<Element>(v), low = round_chunk<Element>(v);
      if (i < n_chunks) {
        reinterpret_cast<uint4*>(out)[i] = high;
        reinterpret_cast<uint4*>(out + plane_bytes)[i] = low;
      }
    } else {
      float exact[8];
#pragma unroll
      for (int k = 0; k < 8; ++k) exact[k] = v[k];
      const uint4 rounded = round_chunk<F16>(v);
      float sum = 0.0f;
#pragma unroll
      for (int k = 0; k < 8; ++k) sum = __fadd_rn(sum, __fsub_rn(exact[k], v[k]));
#pragma unroll
      for (int step = 1; step < Tile::group / 8; step *= 2) {
        sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
      }
      if (i < n_chunks) {
        reinterpret_cast<uint4*>(out)[i] = rounded;
        if (i % (Tile::group / 8) == 0) {
          constexpr float factor = Tile::zero != 0 ? -0x1p-24f * Tile::zero : 0x1p-24f;
          sums[i / (Tile::group / 8) * slots] = __fmul_rn(sum, factor);
        }
      }
    }
  }
}

}  // namespace cga::cuda
