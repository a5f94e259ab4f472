// Products for up to 32 tokens, whose time is that of reading the weights.
//
// A CTA takes 16 rows of weights at a time. Each of its warps sums a contiguous stretch of the columns with
// tensor cores, codes going straight from memory to registers to mma; the warps' sums are added in shared
// memory in order of columns. Warps, stretches and every order of addition depend on cols alone; a token is a
// column of the mma, which no other column can reach. So its bits do not depend on the rest of the batch.
//
// Codes enter mma as integers (times 2^-24), and sums over a group of columns are scaled in f32 after it:
// that costs 4 multiply-adds for each 16 x 32 weights of a warp, instead of one for every weight.
#pragma once

#include <type_traits>

#include "kernels/cuda/matmul/activations.cuh"
#include "kernels/cuda/matmul/decode.h"
#include "kernels/cuda/matmul/fragment.cuh"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {

inline constexpr int partial_stride = tile_rows + 4;  // as in plan.cpp

/// Activations as a lane reads them: its tokens are 8 n + lane / 4 in b and 8 n + 2 (lane % 4) + {0, 1} in c.
struct ActivationReader {
  const std::byte* x = nullptr;  // the lane's token of column 0 of the first tile of tokens
  const float* sums = nullptr;   // [groups][slots], at the lane's slot
  std::int64_t stride = 0, plane = 0;
  int slots = 0;
  int n_tokens = 0, token = 0;

  __device__ ActivationReader(const std::byte* base, const ActivationLayout& layout, int lane)
      : x(base + lane / 4 * layout.stride_bytes),
        sums(reinterpret_cast<const float*>(base + layout.sums_offset) + 2 * (lane % 4)),
        stride(layout.stride_bytes),
        plane(layout.plane_bytes()),
        slots(layout.slots),
        n_tokens(layout.n_tokens),
        token(lane / 4) {}

  /// The operands of both mmas of a half: {mma 0: b0, b1, mma 1: b0, b1}; zero for absent tokens.
  template <int Group>
  __device__ __forceinline__ uint4 operands(int n, int column, int lane, int p = 0) const {
    if (8 * n + token >= n_tokens) return {0, 0, 0, 0};
    const std::byte* row = x + 8 * n * stride + p * plane;
    if constexpr (Group == 16) {
      const auto* at = reinterpret_cast<const uint2*>(row + 2 * (column + 4 * (lane % 4)));
      const uint2 a = at[0], b = at[4];
      return {a.x, a.y, b.x, b.y};
    } else {
      return *reinterpret_cast<const uint4*>(row + 2 * (column + 8 * (lane % 4)));
    }
  }

  __device__ __forceinline__ float2 group_sums(int n, int group) const {
    return *reinterpret_cast<const float2*>(sums + group * slots + 8 * n);
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
template <class Tile, int N>
__device__ __forceinline__ void multiply_tile(float (&acc)[N][4], const Fragment<Tile>& w,
                                              const ActivationReader& x, int tile, int lane) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t a[2][4];
    w.operand(half, 0, a[0]);
    w.operand(half, 1, a[1]);
    const int column = tile_cols * tile + 32 * half;
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const uint4 b = x.template operands<Tile::group>(n, column, lane);
      if constexpr (Tile::is_float) {
        const uint4 low = x.template operands<Tile::group>(n, column, lane, 1);
        mma<typename Tile::element>(acc[n], a[0], b.x, b.y);
        mma<typename Tile::element>(acc[n], a[1], b.z, b.w);
        mma<typename Tile::element>(acc[n], a[0], low.x, low.y);
        mma<typename Tile::element>(acc[n], a[1], low.z, low.w);
      } else {
        constexpr int groups = 32 / Tile::group;
        constexpr float zero = -static_cast<float>(Tile::zero);
#pragma unroll
        for (int i = 0; i < groups; ++i) {
          float2 sums = {0.0f, 0.0f};
          if constexpr (Tile::zero != 0 || Tile::has_min) sums = x.group_sums(n, column / Tile::group + i);
          float c[4] = {zero * sums.x, zero * sums.y, zero * sums.x, zero * sums.y};
          if (groups == 1 || i == 0) mma<F16>(c, a[0], b.x, b.y);
          if (groups == 1 || i == 1) mma<F16>(c, a[1], b.z, b.w);
          add_group<Tile>(acc[n], c, w, half * groups + i, sums);
        }
      }
    }
  }
}

/// A warp's stretch of a row of tiles. Loads of several tiles are in flight before the first is used.
template <class Tile, int N>
__device__ __forceinline__ void multiply_stretch(float (&acc)[N][4], const TileArrays& weight, int row_tile,
                                                 int first, int last, const ActivationReader& x, int lane) {
  constexpr int depth = Tile::code_bytes > 1024 ? 2 : 4;
  const std::int64_t row = row_tile * weight.col_tiles;
  for (int tile = first; tile < last; tile += depth) {
    Fragment<Tile> w[depth];
#pragma unroll
    for (int i = 0; i < depth; ++i) {
      if (tile + i < last) w[i].load(weight, row + tile + i, lane);
    }
#pragma unroll
    for (int i = 0; i < depth; ++i) {
      if (tile + i < last) multiply_tile<Tile, N>(acc, w[i], x, tile + i, lane);
    }
  }
}

/// @param partials  [warps][n_tokens][partial_stride], shared
template <int N>
__device__ __forceinline__ void store_partials(const float (&acc)[N][4], float* partials, int n_tokens,
                                               int lane) {
  float* mine = partials + threadIdx.x / 32 * n_tokens * partial_stride + lane / 4;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = 8 * n + 2 * (lane % 4) + i % 2;
      if (token < n_tokens) mine[token * partial_stride + 8 * (i / 2)] = acc[n][i];
    }
  }
}

/// Adds up the warps' sums of one result.
__device__ __forceinline__ float sum_partials(const float* partials, int n_tokens, int token, int row) {
  const int n_warps = blockDim.x / 32;
  float sum = 0.0f;
  for (int w = 0; w < n_warps; ++w) {
    sum = __fadd_rn(sum, partials[(w * n_tokens + token) * partial_stride + row]);
  }
  return sum;
}

__device__ __forceinline__ float silu(float v) {
  return __fdiv_rn(v, __fadd_rn(1.0f, expf(-v)));
}

/// A result in its own units, bias added.
template <class Tile>
__device__ __forceinline__ float finish(float sum, const DecodeTarget& target, int row, float token_scale) {
  sum = __fmul_rn(sum, token_scale);
  if constexpr (!Tile::is_float) sum = __fmul_rn(__fmul_rn(sum, 0x1p24f), target.weight.row_scale[row]);
  return target.bias != nullptr ? __fadd_rn(sum, target.bias[row]) : sum;
}

template <class Tile>
__device__ void convert_all(const DecodeArgs& args, const ActivationLayout& layout, std::byte* to, int token,
                            float* scratch) {
  const ActivationRow row{args.x + static_cast<std::int64_t>(token) * args.cols, args.norm, args.eps,
                          args.cols, static_cast<int>(layout.padded_cols)};
  convert_row<Tile>(row, to + token * layout.stride_bytes, layout.plane_bytes(),
                    reinterpret_cast<float*>(to + layout.sums_offset) + token, layout.slots,
                    reinterpret_cast<float*>(to + layout.scales_offset) + token, scratch);
}

/// Sums of tokens that are not there.
template <class Tile>
__device__ void clear_sums(const ActivationLayout& layout, std::byte* to) {
  if constexpr (!Tile::is_float) {
    auto* sums = reinterpret_cast<float*>(to + layout.sums_offset);
    const int n = static_cast<int>(layout.padded_cols / Tile::group) * layout.slots;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
      if (i % layout.slots >= layout.n_tokens) sums[i] = 0.0f;
    }
  }
}

/// One CTA a token, and one more for those that are not there.
template <class Tile>
__global__ void __launch_bounds__(512)
    convert_kernel(const __grid_constant__ DecodeArgs args, const __grid_constant__ ActivationLayout layout) {
  __shared__ float scratch[64];
  if (blockIdx.x < args.n_tokens) {
    convert_all<Tile>(args, layout, args.converted, blockIdx.x, scratch);
  } else {
    clear_sums<Tile>(layout, args.converted);
  }
}

template <class Tile>
__device__ __forceinline__ void write_result(const DecodeArgs& args, const DecodeTarget& target, float value,
                                             float gate, int token, int row) {
  float* out = target.out + static_cast<std::int64_t>(token) * target.rows + row;
  if (args.epilogue == Epilogue::swiglu) value = __fmul_rn(silu(gate), value);
  if (args.epilogue == Epilogue::add) value = __fadd_rn(*out, value);
  *out = value;
}

/// @param N      tiles of 8 tokens
/// @param Fused  activations are converted here, into shared memory
template <class Tile, int N, bool Fused>
__global__ void __launch_bounds__(512, N == 1 ? 2 : 1)
    decode_kernel(const __grid_constant__ DecodeArgs args, const __grid_constant__ DecodePlan plan) {
  extern __shared__ std::byte shared[];
  __shared__ float scratch[64];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const std::byte* activations = Fused ? shared : args.converted;
  if constexpr (Fused) {
    for (int token = 0; token < args.n_tokens; ++token) {
      convert_all<Tile>(args, plan.activations, shared, token, scratch);
    }
    clear_sums<Tile>(plan.activations, shared);
    __syncthreads();
  }
  auto* partials = reinterpret_cast<float*>(shared + plan.partials_offset);
  const auto* token_scale = reinterpret_cast<const float*>(activations + plan.activations.scales_offset);
  const ActivationReader reader(activations, plan.activations, lane);
  const int col_tiles = static_cast<int>(plan.activations.padded_cols / tile_cols);
  const int first = warp * col_tiles / plan.warps, last = (warp + 1) * col_tiles / plan.warps;
  const bool pairs = args.epilogue == Epilogue::swiglu;
  constexpr int max_held = 8 * N * tile_rows / 128;  // results a thread, with the fewest warps
  for (int task = blockIdx.x; task < args.n_tasks; task += gridDim.x) {
    int t = 0;
    while (t + 1 < args.n_targets && !pairs && task >= args.targets[t + 1].first_task) ++t;
    const int row_tile = task - args.targets[t].first_task;
    float held[max_held];
    for (int unit = 0; unit < (pairs ? 2 : 1); ++unit) {
      const DecodeTarget& target = args.targets[t + unit];
      float acc[N][4] = {};
      multiply_stretch<Tile, N>(acc, target.weight, row_tile, first, last, reader, lane);
      store_partials<N>(acc, partials, args.n_tokens, lane);
      __syncthreads();
#pragma unroll
      for (int h = 0; h < max_held; ++h) {
        const int i = threadIdx.x + h * blockDim.x;
        const int token = i / tile_rows, row = row_tile * tile_rows + i % tile_rows;
        if (token >= args.n_tokens || row >= target.rows) continue;
        const float sum = sum_partials(partials, args.n_tokens, token, i % tile_rows);
        const float value = finish<Tile>(sum, target, row, token_scale[token]);
        if (pairs && unit == 0) {
          held[h] = value;
        } else {
          write_result<Tile>(args, args.targets[t], value, held[h], token, row);
        }
      }
      __syncthreads();
    }
  }
}

/// How many CTAs to start, from the device and the kernel.
template <class Kernel>
int grid_of(Kernel kernel, const DecodeArgs& args, const DecodePlan& plan) {
  int device = 0, multiprocessors = 0, ctas = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device),
        "cudaDeviceGetAttribute");
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&ctas, kernel, 32 * plan.warps, plan.shared_bytes),
        "cudaOccupancyMaxActiveBlocksPerMultiprocessor");
  return decode_grid(args.n_tasks, multiprocessors, ctas);
}

template <class Tile, int N, bool Fused>
void launch_decode(const DecodeArgs& args, const DecodePlan& plan, cudaStream_t stream) {
  const auto kernel = decode_kernel<Tile, N, Fused>;
  kernel<<<grid_of(kernel, args, plan), 32 * plan.warps, plan.shared_bytes, stream>>>(args, plan);
  check(cudaGetLastError(), "decode_kernel");
}

template <class Tile>
void convert_activations(const DecodeArgs& args, const DecodePlan& plan, cudaStream_t stream) {
  convert_kernel<Tile>
      <<<args.n_tokens + (Tile::is_float ? 0 : 1), 32 * plan.warps, 0, stream>>>(args, plan.activations);
  check(cudaGetLastError(), "convert_kernel");
}

/// Multiplies by targets of one tile type.
template <class Tile>
void decode(const DecodeArgs& args, const DecodePlan& plan, cudaStream_t stream) {
  if (plan.fused) return launch_decode<Tile, 1, true>(args, plan, stream);
  convert_activations<Tile>(args, plan, stream);
  if (plan.token_tiles == 1) return launch_decode<Tile, 1, false>(args, plan, stream);
  if (plan.token_tiles == 2) return launch_decode<Tile, 2, false>(args, plan, stream);
  launch_decode<Tile, 4, false>(args, plan, stream);
}

}  // namespace cga::cuda
