// From f32 rows to integers: optionally multiplied by a norm's weights, then each 32 columns divided by a
// scale that makes the largest magnitude 32512, and rounded. A value is 256 times a signed byte plus another:
// two operands of one mma. What RMS normalisation divides by is left to the scale of the whole token, so that
// one pass over a row is enough.
#pragma once

#include "kernels/cuda/matmul/activations.cuh"
#include "kernels/cuda/matmul/integer_plan.h"

namespace cga::cuda {

inline constexpr float largest_quantised = 32512.0f;  // 127 * 256: both bytes fit
inline constexpr float least_quantised = 0x1p-100f;   // below it a group is zero; scales stay normal floats

/// Which of a lane's 8 columns of a half meets byte i of operand word r: Fragment::integers has the
/// weights in this order.
template <class Tile>
constexpr int column_of_byte(int r, int i) {
  return Tile::bits == 8 ? 4 * r + 2 * (i % 2) + i / 2 : 2 * r + 4 * (i % 2) + i / 2;
}

/// Where a row goes.
struct QuantisedRow {
  std::byte* codes = nullptr;                       // of the token's slot of tile 0
  float* factors = nullptr;                         // of the token's slot of tile 0
  std::int64_t code_stride = 0, factor_stride = 0;  // from a tile to the next

  __device__ __forceinline__ QuantisedRow(std::byte* to, const IntegerLayout& layout, int slot)
      : codes(to + slot * slot_tile_bytes),
        factors(reinterpret_cast<float*>(to + layout.factors_offset) + slot * layout.factors),
        code_stride(layout.slots * slot_tile_bytes),
        factor_stride(layout.slots * layout.factors) {}
};

/// The low bytes of four integers.
__device__ __forceinline__ std::uint32_t pack_bytes(int a, int b, int c, int d) {
  const std::uint32_t low = __byte_perm(a, b, 0x0040), high = __byte_perm(c, d, 0x0040);
  return __byte_perm(low, high, 0x5410);
}

/// Columns 8 i … 8 i + 7 of a row; the four lanes of a group of 32 columns call it together.
template <class Tile>
__device__ __forceinline__ void quantise_chunk(const QuantisedRow& row, const float (&y)[8], int i,
                                               bool there) {
  std::uint32_t bits =
      0;  // of the largest magnitude; they order floats, and those that are not finite come last
#pragma unroll
  for (int k = 0; k < 8; ++k) bits = max(bits, __float_as_uint(y[k]) & 0x7fffffffu);
  bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, 1));
  bits = max(bits, __shfl_xor_sync(0xffffffffu, bits, 2));
  const float largest = __uint_as_float(bits);
  const bool finite = bits < 0x7f800000u, counts = finite && largest >= least_quantised;
  const float inverse = counts ? __fdiv_rn(largest_quantised, largest) : 0.0f;
  // Of a group with a value that is not finite no result is.
  float scale = counts ? __fmul_rn(largest, 1.0f / (largest_quantised * Tile::code_unit)) : 0.0f;
  if (!finite) scale = __uint_as_float(0x7fc00000u);
  int q[8], sum = 0;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    q[k] = counts ? __float2int_rn(__fmul_rn(y[k], inverse)) : 0;
    sum += q[k];
  }
  if constexpr (Tile::has_min) {
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
  }
  if (!there) return;
  std::uint32_t high[2], low[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    int v[4];
#pragma unroll
    for (int b = 0; b < 4; ++b) v[b] = q[column_of_byte<Tile>(r, b)];
    low[r] = pack_bytes(v[0], v[1], v[2], v[3]);
    // The low byte counts as signed, so the high one is rounded.
    high[r] = pack_bytes((v[0] + 128) >> 8, (v[1] + 128) >> 8, (v[2] + 128) >> 8, (v[3] + 128) >> 8);
  }
  const int tile = i / 8, half = i / 4 % 2, t = i % 4;
  std::byte* to = row.codes + tile * row.code_stride + 16 * t + 8 * half;
  *reinterpret_cast<uint2*>(to) = {high[0], high[1]};
  *reinterpret_cast<uint2*>(to + 64) = {low[0], low[1]};
  if (t != 0) return;
  float* factors = row.factors + tile * row.factor_stride;
  factors[half] = scale;
  if constexpr (Tile::has_min) {
    factors[2 + half] = __fmul_rn(scale * Tile::code_unit, static_cast<float>(sum));
  }
}

/// A lane's 8 columns of a segment, as they are.
struct Chunk {
  float x[8], norm[8];

  __device__ __forceinline__ void load(const ActivationRow& row, int i) {
    load_chunk(row.x, row.cols, i, x);
    if (row.norm != nullptr) load_chunk(row.norm, row.cols, i, norm);
  }
};

/// Segment of 256 columns of a row; a warp calls it together.
/// @param squares  where the segment's sum of squares goes
template <class Tile>
__device__ __forceinline__ void quantise_segment(const ActivationRow& row, const QuantisedRow& to,
                                                 const Chunk& chunk, int segment, float* squares) {
  const int lane = threadIdx.x % 32, i = 32 * segment + lane;
  float y[8], sum = 0.0f;
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    y[k] = row.norm != nullptr ? __fmul_rn(chunk.x[k], chunk.norm[k]) : chunk.x[k];
    sum = __fmaf_rn(chunk.x[k], chunk.x[k], sum);
  }
  quantise_chunk<Tile>(to, y, i, 8 * i < row.padded_cols);
  if (row.norm == nullptr) return;
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
  if (lane == 0) *squares = sum;
}

__device__ __forceinline__ int segments_of(const IntegerLayout& layout) {
  return (layout.col_tiles * tile_cols + segment_cols - 1) / segment_cols;
}

/// What a token's results are multiplied by, in every lane of a warp. The order of additions is the same
/// wherever it is called.
/// @param squares  of its segments
__device__ __forceinline__ float token_scale_of(const ActivationRow& row, const float* squares,
                                                int n_segments) {
  if (row.norm == nullptr) return 1.0f;
  float sum = 0.0f;
  for (int i = threadIdx.x % 32; i < n_segments; i += 32) sum = __fadd_rn(sum, squares[i]);
#pragma unroll
  for (int step = 16; step > 0; step /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(0xffffffffu, sum, step));
  const float mean = __fdiv_rn(sum, static_cast<float>(row.cols));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, row.eps)));
}

__device__ __forceinline__ ActivationRow row_of(const DecodeArgs& args, const IntegerLayout& layout,
                                                int token) {
  return {args.x + static_cast<std::int64_t>(token) * args.cols, args.norm, args.eps, args.cols,
          layout.col_tiles * tile_cols};
}

/// Quantises the first n_tokens tokens; the whole CTA calls it. The next segment's values are requested
/// before one's are used.
/// @param squares  [n_tokens][segments], shared
template <class Tile>
__device__ __forceinline__ void quantise_tokens(const DecodeArgs& args, const IntegerLayout& layout,
                                                int n_tokens, std::byte* to, float* squares) {
  const int n_segments = segments_of(layout), n = n_tokens * n_segments, n_warps = blockDim.x / 32;
  const int lane = threadIdx.x % 32;
  int next = threadIdx.x / 32;
  Chunk ahead;
  const auto request = [&] {
    if (next < n) ahead.load(row_of(args, layout, next / n_segments), 32 * (next % n_segments) + lane);
  };
  request();
  while (next < n) {
    const int at = next, token = at / n_segments;
    const Chunk chunk = ahead;
    next += n_warps;
    request();
    quantise_segment<Tile>(row_of(args, layout, token), QuantisedRow(to, layout, token), chunk,
                           at % n_segments, squares + at);
  }
}

}  // namespace cga::cuda
