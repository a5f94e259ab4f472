// Products in integers for up to 32 tokens, of codes of 4 or 8 bits in groups of 32 columns.
//
// A team of 1 to 8 warps takes 16 rows of weights at a time; a warp sums one or more contiguous stretches of
// the columns, in order, and the stretches' sums are added in order. An mma multiplies 16 rows by 32 columns
// of 4 tokens: two of its 8 columns are a token's high and low bytes. Its sums are exact, so what is rounded,
// and in which order, depends on a row's columns alone: a token's bits do not depend on the rest of the
// batch, nor on how many warps a team has.
#pragma once

#include "kernels/cuda/matmul/epilogue.cuh"
#include "kernels/cuda/matmul/integer_activations.cuh"
#include "kernels/cuda/matmul/launch.cuh"
#include "kernels/cuda/matmul/weight_stream.cuh"

namespace cga::cuda {

/// Activations as a lane 4 g + t reads them: bytes of column g of mma (token g / 2 of four, its high or low
/// byte), factors of its results' token t. Of tokens that are not there it reads others; their results are
/// never written.
template <class Tile>
struct QuantisedReader {
  static constexpr int n_factors = Tile::has_min ? 4 : 2;
  const std::byte* codes;
  const float* factors;
  int slots;

  __device__ __forceinline__ QuantisedReader(const std::byte* from, const IntegerLayout& layout, int lane)
      : codes(from + min(lane / 8, layout.slots - 1) * slot_tile_bytes + lane % 8 * 16),
        factors(reinterpret_cast<const float*>(from + layout.factors_offset) +
                min(lane % 4, layout.slots - 1) * n_factors),
        slots(layout.slots) {}

  /// Goes on by n tiles of weights.
  __device__ __forceinline__ void advance(int n) {
    codes += n * slots * slot_tile_bytes;
    factors += n * slots * n_factors;
  }

  /// Operands of both halves of a tile: {half 0: b0, b1, half 1: b0, b1}.
  /// @param n  of the tiles of 4 tokens
  __device__ __forceinline__ uint4 operands(int tile, int n) const {
    return *reinterpret_cast<const uint4*>(codes + tile * slots * slot_tile_bytes +
                                           quad_tokens * slot_tile_bytes * n);
  }

  /// {scales of both halves, sums of both halves if weights have minima}
  __device__ __forceinline__ float4 factors_of(int tile, int n) const {
    const float* at = factors + tile * slots * n_factors + quad_tokens * n_factors * n;
    if constexpr (Tile::has_min) return *reinterpret_cast<const float4*>(at);
    const float2 scales = *reinterpret_cast<const float2*>(at);
    return {scales.x, scales.y, 0.0f, 0.0f};
  }
};

/// acc += a half of a tile of 16 x 64 weights times its columns of 4 tokens, for the lane's two rows and one
/// token. Every rounding of a sum over columns is here.
/// @param a             the half's weights
/// @param scales, mins  of the lane's rows
template <class Tile>
__device__ __forceinline__ void multiply_half(float (&acc)[2], const std::uint32_t (&a)[4], std::uint32_t b0,
                                              std::uint32_t b1, const float (&scales)[2],
                                              const float (&mins)[2], float x_scale, float x_sum) {
  int c[4];
  mma_bytes<Tile::zero != 0>(c, a, b0, b1);
#pragma unroll
  for (int row = 0; row < 2; ++row) {
    const int sum = 256 * c[2 * row] + c[2 * row + 1];  // at most 2^28
    acc[row] = __fmaf_rn(static_cast<float>(sum), __fmul_rn(scales[row], x_scale), acc[row]);
    if constexpr (Tile::has_min) acc[row] = __fmaf_rn(-mins[row], x_sum, acc[row]);
  }
}

/// acc[N tiles of 4 tokens][rows] += a tile of weights times its columns of the activations.
template <class Tile, int N>
__device__ __forceinline__ void multiply_quads(float (&acc)[N][2], const Fragment<Tile>& w,
                                               const QuantisedReader<Tile>& x, int tile) {
  uint4 b[N];
  float4 factors[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    b[n] = x.operands(tile, n);
    factors[n] = x.factors_of(tile, n);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    std::uint32_t a[4];
    w.integers(half, a);
    const float scales[2] = {w.scale(0, half), w.scale(1, half)};
    float mins[2] = {};
    if constexpr (Tile::has_min) mins[0] = w.min(0, half), mins[1] = w.min(1, half);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      multiply_half<Tile>(acc[n], a, half == 0 ? b[n].x : b[n].z, half == 0 ? b[n].y : b[n].w, scales, mins,
                          half == 0 ? factors[n].x : factors[n].y, half == 0 ? factors[n].z : factors[n].w);
    }
  }
}

/// @param partials  [n_tokens][partial_stride], shared
template <int N>
__device__ __forceinline__ void store_quads(const float (&acc)[N][2], float* partials, int n_tokens,
                                            int lane) {
#pragma unroll
  for (int n = 0; n < N; ++n) {
    const int token = quad_tokens * n + lane % 4;
    if (token >= n_tokens) continue;
    partials[token * partial_stride + lane / 4] = acc[n][0];
    partials[token * partial_stride + lane / 4 + 8] = acc[n][1];
  }
}

/// A warp's part in its team's work.
struct Member {
  int lane, team, index;           // index: in the team
  int first_stretch, first, last;  // tiles
  int team_threads;

  __device__ __forceinline__ explicit Member(const IntegerPlan& plan)
      : lane(threadIdx.x % 32),
        team(threadIdx.x / 32 / plan.team_warps),
        index(threadIdx.x / 32 % plan.team_warps),
        first_stretch(index * plan.warp_stretches),
        first(min(first_stretch * plan.stretch_tiles, plan.activations.col_tiles)),
        last(min(first + plan.warp_stretches * plan.stretch_tiles, plan.activations.col_tiles)),
        team_threads(32 * plan.team_warps) {}

  /// Waits for the team. Barrier 0 is the CTA's.
  __device__ __forceinline__ void meet() const {
    asm volatile("bar.sync %0, %1;" ::"r"(team + 1), "r"(team_threads) : "memory");
  }
};

/// Sums of a warp's stretches of a matrix, to where they are added up. The first warp of a team adds its own
/// up on the way.
template <class Tile, int N, class Weights>
__device__ __forceinline__ void multiply_stretches(const DecodeArgs& args, const IntegerPlan& plan,
                                                   const Member& me, Weights& weights,
                                                   QuantisedReader<Tile> x, float* partials, int n_tokens) {
  const int partial = n_tokens * partial_stride;
  x.advance(me.first);
  float total[N][2] = {};
  int slot = me.first_stretch - plan.warp_stretches + 1;  // of the first warp there is only slot 0
  for (int tile = me.first; tile < me.last; ++slot) {
    float acc[N][2] = {};
    const int end = min(tile + plan.stretch_tiles, me.last);
    for (; tile < end; tile += Tile::step) {
      Fragment<Tile> w[Tile::step];
      weights.next(args, w);
#pragma unroll
      for (int i = 0; i < Tile::step; ++i) {
        if (i == 0 || tile + i < end) multiply_quads<Tile, N>(acc, w[i], x, i);
      }
      x.advance(Tile::step);
    }
    if (me.index != 0) {
      store_quads<N>(acc, partials + slot * partial, n_tokens, me.lane);
      continue;
    }
#pragma unroll
    for (int n = 0; n < N; ++n) {
      total[n][0] = __fadd_rn(total[n][0], acc[n][0]);
      total[n][1] = __fadd_rn(total[n][1], acc[n][1]);
    }
  }
  if (me.index == 0) store_quads<N>(total, partials, n_tokens, me.lane);
}

/// Asks the second-level cache for what no kernel writes.
__device__ __forceinline__ void fetch(const float* at) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
}

__device__ __forceinline__ void fetch_norm(const DecodeArgs& args) {
  if (args.norm == nullptr) return;
  for (int i = 32 * threadIdx.x; i < args.cols; i += 32 * blockDim.x) fetch(args.norm + i);
}

/// Row scales and biases of 16 rows. They are loaded when the sums are there, since no registers are left to
/// hold them meanwhile.
__device__ __forceinline__ void fetch_rows(const DecodeArgs& args, const Place& place, const Member& me) {
  if (me.index != 0 || me.lane != 0) return;
  const DecodeTarget& target = args.targets[place.target];
  fetch(target.weight.row_scale + place.row_tile * tile_rows);
  if (target.bias != nullptr) fetch(target.bias + place.row_tile * tile_rows);
}

/// A CTA's activations in shared memory, and the scales of tokens for each team by itself: its first meeting
/// makes them seen.
template <class Tile>
__device__ __forceinline__ void quantise_here(const DecodeArgs& args, const IntegerPlan& plan,
                                              const Member& me, std::byte* shared) {
  auto* squares = reinterpret_cast<float*>(shared + plan.squares_offset);
  quantise_tokens<Tile>(args, plan.activations, args.n_tokens, shared, squares);
  __syncthreads();
  if (me.index != 0) return;
  auto* scales = reinterpret_cast<float*>(shared + plan.team_scales_offset) + quad_tokens * me.team;
  const int n_segments = segments_of(plan.activations);
  for (int token = 0; token < args.n_tokens; ++token) {
    const ActivationRow row = row_of(args, plan.activations, token);
    const float scale = token_scale_of(row, squares + token * n_segments, n_segments);
    if (me.lane == 0) scales[token] = scale;
  }
}

/// One CTA a slot; those beyond the tokens hold zeros.
template <class Tile>
__global__ void __launch_bounds__(512)
    quantise_kernel(const __grid_constant__ DecodeArgs args, const __grid_constant__ IntegerLayout layout) {
  extern __shared__ std::byte shared[];  // sums of squares of segments
  let_next_begin();
  wait_for_previous();
  const int token = blockIdx.x, slot = token % layout.slots, n_segments = segments_of(layout);
  std::byte* to = args.converted + token / layout.slots * layout.bytes;
  ActivationRow row = row_of(args, layout, token);
  if (token >= args.n_tokens) row = {nullptr, nullptr, 0.0f, 0, row.padded_cols};
  auto* squares = reinterpret_cast<float*>(shared);
  for (int segment = threadIdx.x / 32; segment < n_segments; segment += blockDim.x / 32) {
    Chunk chunk;
    chunk.load(row, 32 * segment + threadIdx.x % 32);
    quantise_segment<Tile>(row, QuantisedRow(to, layout, slot), chunk, segment, squares + segment);
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  const float scale = token_scale_of(row, squares, n_segments);
  if (threadIdx.x == 0) reinterpret_cast<float*>(to + layout.scales_offset)[slot] = scale;
}

/// @param N      tiles of 4 tokens; activations of a single one are quantised here
/// @param Slots  of a ring
template <class Tile, int N, int Slots>
__global__ void __launch_bounds__(32 * max_cta_warps, N == 1 ? 2 : 1)
    integer_kernel(const __grid_constant__ DecodeArgs args, const __grid_constant__ IntegerPlan plan) {
  extern __shared__ std::byte shared[];
  const Member me(plan);
  const Share share = share_of_team(me.team, plan.teams);
  std::byte* ring = shared + plan.ring_offset + threadIdx.x / 32 * plan.ring_bytes;
  WeightStream<Tile, Slots> weights(args, share, ring, Slots, me.first, me.last, me.lane);
  let_next_begin();
  if constexpr (N == 1) fetch_norm(args);
  wait_for_previous();
  if constexpr (N == 1) quantise_here<Tile>(args, plan, me, shared);
  const std::byte* activations = N == 1 ? shared : args.converted + blockIdx.y * plan.activations.bytes;
  const QuantisedReader<Tile> x(activations, plan.activations, me.lane);
  const auto* token_scale =
      N == 1 ? reinterpret_cast<const float*>(shared + plan.team_scales_offset) + quad_tokens * me.team
             : reinterpret_cast<const float*>(activations + plan.activations.scales_offset);
  const int n_tokens = min(group_tokens, args.n_tokens - static_cast<int>(blockIdx.y) * group_tokens);
  const Writer writer{static_cast<int>(threadIdx.x) - me.team * me.team_threads, me.team_threads, n_tokens};
  float* buffers =
      reinterpret_cast<float*>(shared + plan.partials_offset) + 2 * me.team * plan.partials_floats;
  float gate = 0.0f;  // a result of swiglu's first matrix
  for (int n = 0; has_work(args, share, n); ++n) {
    const Place place = place_of(args, share, n);
    float* partials = buffers + n % 2 * plan.partials_floats;
    fetch_rows(args, place, me);
    multiply_stretches<Tile, N>(args, plan, me, weights, x, partials, n_tokens);
    me.meet();
    Operands operands[1];
    operands[0].gate = gate;
    request_all<Tile, 1>(operands, args, place, writer);
    write_all<Tile, 1>(operands, args, place, writer, partials, plan.n_partials, token_scale);
    gate = operands[0].gate;
  }
}

template <class Tile, int N, int Slots>
void launch_integers(const DecodeArgs& args, const IntegerPlan& plan, cudaStream_t stream) {
  const auto kernel = integer_kernel<Tile, N, Slots>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(plan.shared_bytes)),
        "cudaFuncAttributeMaxDynamicSharedMemorySize");
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout, plan.carveout_percent),
        "cudaFuncAttributePreferredSharedMemoryCarveout");
  const dim3 grid(static_cast<unsigned>(plan.grid), static_cast<unsigned>(plan.token_groups));
  launch_early(kernel, grid, 32 * plan.warps(), plan.shared_bytes, stream, args, plan);
}

template <class Tile>
void quantise(const DecodeArgs& args, const IntegerPlan& plan, cudaStream_t stream) {
  const IntegerLayout& layout = plan.activations;
  const int n_segments = (layout.col_tiles * tile_cols + segment_cols - 1) / segment_cols;
  const dim3 grid(static_cast<unsigned>(layout.slots * plan.token_groups));
  launch_early(quantise_kernel<Tile>, grid, 32 * std::min(n_segments, max_cta_warps),
               static_cast<std::size_t>(n_segments) * 4, stream, args, layout);
}

/// Multiplies by targets of one tile type.
template <class Tile>
void decode_integers(const DecodeArgs& args, const IntegerPlan& plan, cudaStream_t stream) {
  constexpr int deep = ring_depths[0], medium = ring_depths[1], shallow = ring_depths[2];
  if (plan.quantises) {
    if (plan.ring_slots == deep) return launch_integers<Tile, 1, deep>(args, plan, stream);
    if (plan.ring_slots == medium) return launch_integers<Tile, 1, medium>(args, plan, stream);
    return launch_integers<Tile, 1, shallow>(args, plan, stream);
  }
  quantise<Tile>(args, plan, stream);
  if (plan.token_tiles == 2) return launch_integers<Tile, 2, shallow>(args, plan, stream);
  launch_integers<Tile, 4, shallow>(args, plan, stream);
}

}  // namespace cga::cuda
