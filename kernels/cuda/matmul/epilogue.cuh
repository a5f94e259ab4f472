// From the sums of a task's stretches of columns to results: shared by the decode kernels.
#pragma once

#include "kernels/cuda/matmul/decode.h"
#include "kernels/cuda/matmul/work.cuh"

namespace cga::cuda {

/// Adds up the partial sums of one result.
/// @param at  the first
__device__ __forceinline__ float sum_partials(const float* at, int n_partials, int n_tokens) {
  const int stride = n_tokens * partial_stride;
  float sum = 0.0f;
#pragma unroll 4
  for (int i = 0; i < n_partials; ++i) sum = __fadd_rn(sum, at[i * stride]);
  return sum;
}

/// A thread of those who write a task's results: a CTA, or a team of its warps.
struct Writer {
  int thread, n_threads;  // n_threads a multiple of 32
  int n_tokens;           // of the CTA's group

  /// Whether it has any result. A writer has those numbered thread, thread + n_threads, …
  __device__ __forceinline__ bool writes() const { return thread < tile_rows * n_tokens; }
};

/// A writer's h-th result of 16 rows: a token of the group and a row.
struct Result {
  int slot, row;
  bool there;
  std::int64_t index;  // in out

  __device__ __forceinline__ Result(const DecodeArgs& args, const Place& place, const Writer& writer, int h) {
    const int i = writer.thread + h * writer.n_threads;
    slot = i / tile_rows;
    row = place.row_tile * tile_rows + i % tile_rows;
    there = slot < writer.n_tokens && row < args.targets[place.target].rows;
    index =
        static_cast<std::int64_t>(blockIdx.y * group_tokens + slot) * args.targets[place.target].rows + row;
  }
};

/// What a result needs besides its sum, requested before it so that it is there when the sum is.
struct Operands {
  float row_scale = 1.0f;
  float addend = 0.0f;  // bias, what is in out
  float gate = 0.0f;    // the result of swiglu's first matrix
};

template <class Tile>
__device__ __forceinline__ void request(Operands& operands, const DecodeArgs& args, const Place& place,
                                        const Result& result) {
  if (!result.there) return;
  const DecodeTarget& target = args.targets[place.target];
  if constexpr (!Tile::is_float) operands.row_scale = target.weight.row_scale[result.row];
  operands.addend = target.bias != nullptr ? target.bias[result.row] : 0.0f;
  if (args.epilogue == Epilogue::add) operands.addend = __fadd_rn(operands.addend, target.out[result.index]);
}

/// @param N  results that the writer has at most
template <class Tile, int N>
__device__ __forceinline__ void request_all(Operands (&operands)[N], const DecodeArgs& args,
                                            const Place& place, const Writer& writer) {
  if (!writer.writes()) return;
#pragma unroll
  for (int h = 0; h < N; ++h) request<Tile>(operands[h], args, place, Result(args, place, writer, h));
}

__device__ __forceinline__ float silu(float v) {
  return __fdiv_rn(v, __fadd_rn(1.0f, expf(-v)));
}

/// Writes a result, or keeps it for the task's other matrix.
/// @param sum  of products of scaled activations and scaled weights
template <class Tile>
__device__ __forceinline__ void write(Operands& operands, const DecodeArgs& args, const Place& place,
                                      const Result& result, float sum, float token_scale) {
  float value = __fmul_rn(sum, token_scale);
  // Codes that were read as f16 are 2^-24 of what they stand for.
  if constexpr (!Tile::is_float && !Tile::integer_products) value = __fmul_rn(value, 0x1p24f);
  if constexpr (!Tile::is_float) value = __fmul_rn(value, operands.row_scale);
  value = __fadd_rn(value, operands.addend);
  if (args.epilogue != Epilogue::swiglu) {
    args.targets[place.target].out[result.index] = value;
  } else if (place.unit == 0) {
    operands.gate = value;
  } else {
    args.targets[0].out[result.index] = __fmul_rn(silu(operands.gate), value);
  }
}

/// @param partials     [n_partials][n_tokens][partial_stride], shared
/// @param token_scale  [n_tokens]
template <class Tile, int N>
__device__ __forceinline__ void write_all(Operands (&operands)[N], const DecodeArgs& args, const Place& place,
                                          const Writer& writer, const float* partials, int n_partials,
                                          const float* token_scale) {
  if (!writer.writes()) return;
#pragma unroll
  for (int h = 0; h < N; ++h) {
    const Result result(args, place, writer, h);
    if (!result.there) continue;
    const float sum = sum_partials(partials + result.slot * partial_stride + writer.thread % tile_rows,
                                   n_partials, writer.n_tokens);
    write<Tile>(operands[h], args, place, result, sum, token_scale[result.slot]);
  }
}

}  // namespace cga::cuda
