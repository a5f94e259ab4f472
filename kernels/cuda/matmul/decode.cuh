// Products for up to 32 tokens, whose time is that of reading the weights.
//
// A CTA takes 16 rows of weights at a time. Each of its warps sums one or two contiguous stretches of the
// columns with tensor cores; the stretches' sums are added in shared memory in order. Stretches and every
// order of addition depend on cols alone; a token is a column of the mma, which no other column can reach. So
// its bits do not depend on the rest of the batch.
//
// Codes enter mma as integers (times 2^-24), and sums over a group of columns are scaled in f32 after it:
// that costs 4 multiply-adds for each 16 x 32 weights of a warp, instead of one for every weight.
#pragma once

#include <type_traits>

#include "kernels/cuda/matmul/activations.cuh"
#include "kernels/cuda/matmul/decode.h"
#include "kernels/cuda/matmul/epilogue.cuh"
#include "kernels/cuda/matmul/launch.cuh"
#include "kernels/cuda/matmul/weight_stream.cuh"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {

/// Activations as a lane reads them: its tokens are 8 n + lane / 4 in b and 8 n + 2 (lane % 4) + {0, 1} in c.
/// Columns of tokens that are not there hold zeros, or sums of anything; they are never written.
/// @param N  tiles of 8 tokens
/// @param Single  there is one token, in shared memory
template <class Tile, int N, bool Single>
struct ActivationReader {
  static constexpr Space space = Single ? Space::shared : Space::global;
  const std::byte* x = nullptr;  // at the lane's first token and column
  const float* sums = nullptr;   // [groups][8 N], at the lane's slot; or [groups]
  std::int64_t stride = 0, plane = 0;
  int n_tokens = 0;  // from the lane's first

  /// @param base  of the group of tokens
  __device__ __forceinline__ ActivationReader(const std::byte* base, const ActivationLayout& layout,
                                              int n_tokens, int lane)
      : x(base + lane / 4 * layout.stride_bytes + (Tile::group == 16 ? 8 : 16) * (lane % 4)),
        sums(reinterpret_cast<const float*>(base + layout.sums_offset) + (Single ? 0 : 2 * (lane % 4))),
        stride(layout.stride_bytes),
        plane(layout.plane_bytes()),
        n_tokens(n_tokens - lane / 4) {}

  /// The operands of both mmas of a half: {mma 0: b0, b1, mma 1: b0, b1}.
  /// @param column  the half's first
  __device__ __forceinline__ uint4 operands(int n, int column, int p = 0) const {
    const bool used = 8 * n < n_tokens;
    const std::byte* row = x + 8 * n * stride + p * plane + 2 * column;
    if constexpr (Tile::group == 16) {
      const uint2 a = load_8_if<space>(used, row), b = load_8_if<space>(used, row + 32);
      return {a.x, a.y, b.x, b.y};
    } else {
      return load_16_if<space>(used, row);
    }
  }

  /// Sums of the lane's two tokens.
  __device__ __forceinline__ float2 group_sums(int n, int group) const {
    if constexpr (Single) return {sums[group], sums[group]};
    return *reinterpret_cast<const float2*>(sums + 8 * N * group + 8 * n);
  }
};

/// acc += scale * c - min * sums, for the lane's two rows and two tokens.
template <class Tile>
__device__ __forceinline__ void add_group(float (&acc)[4], const float (&c)[4], const Fragment<Tile>& w,
                                          int group, float2 sums) {
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const float scale = w.scale(row, group);
    acc[2 * row] = __fmaf_rn(scale, c[2 * row], acc[2 * row]);
    acc[2 * row + 1] = __fmaf_rn(scale, c[2 * row + 1], acc[2 * row + 1]);
    if constexpr (Tile::has_min) {
      const float min = -w.min(row, group);
      acc[2 * row] = __fmaf_rn(min, sums.x, acc[2 * row]);
      acc[2 * row + 1] = __fmaf_rn(min, sums.y, acc[2 * row + 1]);
    }
  }
}

/// acc[N tiles of tokens] += a tile of 16 x 64 weights times its columns of the activations.
template <class Tile, int N, bool Single>
__device__ __forceinline__ void multiply_tile(float (&acc)[N][4], const Fragment<Tile>& w,
                                              const ActivationReader<Tile, N, Single>& x, int tile) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t a[2][4];
    w.operand(half, 0, a[0]);
    w.operand(half, 1, a[1]);
    const int column = tile_cols * tile + 32 * half;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const uint4 b = x.operands(n, column);
      if constexpr (Tile::is_float) {
        const uint4 low = x.operands(n, column, 1);
        mma<typename Tile::element>(acc[n], a[0], b.x, b.y);
        mma<typename Tile::element>(acc[n], a[1], b.z, b.w);
        mma<typename Tile::element>(acc[n], a[0], low.x, low.y);
        mma<typename Tile::element>(acc[n], a[1], low.z, low.w);
      } else {
        constexpr int groups = 32 / Tile::group;
#pragma unroll
        for (int i = 0; i < groups; ++i) {
          const int group = half * groups + i;
          const float2 sums = x.group_sums(n, Tile::n_groups * tile + group);
          float c[4] = {};
          if constexpr (Tile::zero != 0) c[0] = c[2] = sums.x, c[1] = c[3] = sums.y;
          if (groups == 1 || i == 0) mma<F16>(c, a[0], b.x, b.y);
          if (groups == 1 || i == 1) mma<F16>(c, a[1], b.z, b.w);
          add_group<Tile>(acc[n], c, w, group, sums);
        }
      }
    }
  }
}

/// @param partials  of the stretch: [n_tokens][partial_stride], shared
template <int N>
__device__ __forceinline__ void store_partials(const float (&acc)[N][4], float* partials, int n_tokens,
                                               int lane) {
  float* mine = partials + lane / 4;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = 8 * n + 2 * (lane % 4) + i % 2;
      if (token < n_tokens) mine[token * partial_stride + 8 * (i / 2)] = acc[n][i];
    }
  }
}

template <class Tile>
__device__ __forceinline__ void convert_token(const DecodeArgs& args, const ActivationLayout& layout,
                                              std::byte* to, int token, int slot, float2* scratch) {
  const ActivationRow row{args.x + static_cast<std::int64_t>(token) * args.cols, args.norm, args.eps,
                          args.cols, static_cast<int>(layout.padded_cols)};
  convert_row<Tile>(row, to + slot * layout.stride_bytes, layout.plane_bytes(),
                    reinterpret_cast<float*>(to + layout.sums_offset) + slot, layout.slots,
                    reinterpret_cast<float*>(to + layout.scales_offset) + slot, scratch);
}

/// One CTA a token.
template <class Tile>
__global__ void __launch_bounds__(512)
    convert_kernel(const __grid_constant__ DecodeArgs args, const __grid_constant__ ActivationLayout layout) {
  __shared__ float2 scratch[max_segments];
  const int token = blockIdx.x;
  let_next_begin();
  wait_for_previous();
  convert_token<Tile>(args, layout, args.converted + token / group_tokens * layout.bytes, token,
                      token % group_tokens, scratch);
}

/// @param N      tiles of 8 tokens
/// @param Fused  the activations, of one token, are converted here, into shared memory
template <class Tile, int N, bool Fused>
__global__ void __launch_bounds__(512, N == 1 ? 2 : 1)
    decode_kernel(const __grid_constant__ DecodeArgs args, const __grid_constant__ DecodePlan plan) {
  extern __shared__ std::byte shared[];
  __shared__ float2 scratch[max_segments];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int col_tiles = static_cast<int>(plan.activations.padded_cols / tile_cols);
  const int first_stretch = warp * plan.warp_stretches;
  const int first = min(first_stretch * plan.stretch_tiles, col_tiles);
  const int last = min(first + plan.warp_stretches * plan.stretch_tiles, col_tiles);
  constexpr int deep = ring_slots(Slot<Tile>::bytes, true), shallow = ring_slots(Slot<Tile>::bytes, false);
  const Share share = share_of_team(0, 1);
  WeightStream<Tile, deep, shallow> weights(args, share, shared + plan.ring_offset + warp * plan.ring_bytes,
                                            plan.deep ? deep : shallow, first, last, lane);
  let_next_begin();
  wait_for_previous();
  if constexpr (Fused) {
    convert_token<Tile>(args, plan.activations, shared, 0, 0, scratch);
    __syncthreads();
  }
  const int n_tokens = min(group_tokens, args.n_tokens - static_cast<int>(blockIdx.y) * group_tokens);
  const std::byte* activations = Fused ? shared : args.converted + blockIdx.y * plan.activations.bytes;
  const auto* token_scale = reinterpret_cast<const float*>(activations + plan.activations.scales_offset);
  const ActivationReader<Tile, N, Fused> x(activations, plan.activations, n_tokens, lane);
  auto* partials = reinterpret_cast<float*>(shared + plan.partials_offset);
  int spare = plan.partials_floats;
  // 128 threads are the fewest; N results are enough for each.
  const Writer writer{static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x), n_tokens};
  Operands operands[N];
  if (has_work(args, share, 0)) request_all<Tile, N>(operands, args, place_of(args, share, 0), writer);
  for (int n = 0; has_work(args, share, n); ++n) {
    for (int tile = first, stretch = first_stretch; tile < last; ++stretch) {
      float acc[N][4] = {};
      const int end = min(tile + plan.stretch_tiles, last);
      for (; tile < end; tile += Tile::step) {
        Fragment<Tile> w[Tile::step];
        weights.next(args, w);
#pragma unroll
        for (int i = 0; i < Tile::step; ++i) {
          if (i == 0 || tile + i < end) multiply_tile<Tile, N, Fused>(acc, w[i], x, tile + i);
        }
      }
      store_partials<N>(acc, partials + stretch * n_tokens * partial_stride, n_tokens, lane);
    }
    __syncthreads();
    write_all<Tile, N>(operands, args, place_of(args, share, n), writer, partials, plan.stretches,
                       token_scale);
    if (has_work(args, share, n + 1)) {
      request_all<Tile, N>(operands, args, place_of(args, share, n + 1), writer);
    }
    if (spare == 0) __syncthreads();
    partials += spare;
    spare = -spare;
  }
}

template <class Tile, int N, bool Fused>
void launch_decode(const DecodeArgs& args, const DecodePlan& plan, cudaStream_t stream) {
  const auto kernel = decode_kernel<Tile, N, Fused>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(plan.shared_bytes)),
        "cudaFuncAttributeMaxDynamicSharedMemorySize");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, plan.carveout_percent),
        "cudaFuncAttributePreferredSharedMemoryCarveout");
  const dim3 grid(static_cast<unsigned>(plan.grid), static_cast<unsigned>(plan.token_groups));
  launch_early(kernel, grid, 32 * plan.warps, plan.shared_bytes, stream, args, plan);
}

template <class Tile>
void convert_activations(const DecodeArgs& args, const DecodePlan& plan, cudaStream_t stream) {
  launch_early(convert_kernel<Tile>, dim3(static_cast<unsigned>(args.n_tokens)), 32 * plan.warps, 0, stream,
               args, plan.activations);
}

/// Multiplies by targets of one tile type.
template <class Tile>
void decode(const DecodeArgs& args, const DecodePlan& plan, cudaStream_t stream) {
  if (plan.fused) return launch_decode<Tile, 1, true>(args, plan, stream);
  convert_activations<Tile>(args, plan, stream);
  if (plan.token_tiles == 1) return launch_decode<Tile, 1, false>(args, plan, stream);
  launch_decode<Tile, 2, false>(args, plan, stream);
}

}  // namespace cga::cuda
