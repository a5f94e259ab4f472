// Softmax states and their merging. A state is (m, l, sums): the largest score in units of log2, the weights
// 2^(score - m) summed, and values summed with these weights. All orders are fixed, so results are too.
#pragma once

#include "kernels/cuda/attention/hadamard.cuh"
#include "kernels/cuda/attention/mma.cuh"
#include "kernels/cuda/attention/plan.h"

namespace cga::cuda {

inline constexpr int decode_warps = 4;
inline constexpr int decode_threads = 32 * decode_warps;

/// 2^(m - largest), and 0 for the state of no tokens, also where all are.
__device__ inline float state_weight(float m, float largest) {
  return m == -INFINITY ? 0.0f : exp2_approx(m - largest);
}

/// The states of one sequence and tile of heads in the workspace.
struct StateSlots {
  float2* states;  // (m, l) of [n_slots, n_heads]
  float* sums;     // [n_slots, n_heads, head_dim], f32
  int n_heads, head_dim;

  __device__ float2* state(int slot, int head) const { return states + std::int64_t{slot} * n_heads + head; }
  __device__ float* sum(int slot, int head) const {
    return sums + (std::int64_t{slot} * n_heads + head) * head_dim;
  }
};

/// What becomes of a merged state: a slot, or, if slot < 0, the output.
struct StateTarget {
  int slot;
  float* out;  // [n_heads, head_dim], f32: of the row
  bool transformed;
};

/// Merges up to merge_width states from consecutive slots. All threads of the CTA call it.
/// @param first_head  of n_heads <= tile_heads
/// @param scratch     [tile_heads, head_dim + 4], f32, in shared memory
template <int head_dim>
__device__ void merge_slots(const StateSlots& slots, int first_slot, int n_slots, int first_head, int n_heads,
                            const StateTarget& target, float* scratch) {
  __shared__ float weights[tile_heads][merge_width];
  static_assert(tile_heads * merge_width == decode_threads);
  const int i = threadIdx.x % merge_width, h = threadIdx.x / merge_width;
  const float2 none = {-INFINITY, 0};
  const float2 state =
      i < n_slots && h < n_heads ? __ldcg(slots.state(first_slot + i, first_head + h)) : none;
  float largest = state.x;
  for (int lanes = merge_width / 2; lanes > 0; lanes /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
  }
  const float weight = state_weight(state.x, largest);
  float total = weight * state.y;
  for (int lanes = merge_width / 2; lanes > 0; lanes /= 2) total += __shfl_xor_sync(~0u, total, lanes);
  weights[h][i] = target.slot < 0 ? weight / total : weight;
  if (target.slot >= 0 && i == 0 && h < n_heads) {
    __stcg(slots.state(target.slot, first_head + h), make_float2(largest, total));
  }
  __syncthreads();

  for (int at = threadIdx.x; at < n_heads * head_dim / 4; at += decode_threads) {
    const int head = at / (head_dim / 4), dim = at % (head_dim / 4) * 4;
    float4 values[merge_width];
#pragma unroll
    for (int s = 0; s < merge_width; ++s) {  // all loads first: they take as long as one
      values[s] =
          s < n_slots
              ? __ldcg(reinterpret_cast<const float4*>(slots.sum(first_slot + s, first_head + head) + dim))
              : float4{0, 0, 0, 0};
    }
    float4 sum = {0, 0, 0, 0};
#pragma unroll
    for (int s = 0; s < merge_width; ++s) {
      const float w = weights[head][s];
      sum.x += w * values[s].x, sum.y += w * values[s].y, sum.z += w * values[s].z, sum.w += w * values[s].w;
    }
    if (target.slot >= 0) {
      __stcg(reinterpret_cast<float4*>(slots.sum(target.slot, first_head + head) + dim), sum);
    } else {
      *reinterpret_cast<float4*>(scratch + head * (head_dim + 4) + dim) = sum;
    }
  }
  __syncthreads();
}

/// Writes results to the output, transformed back if need be. All threads of the CTA call it.
/// @param results  [n_heads, head_dim + 4], f32, in shared memory
template <int head_dim>
__device__ void write_results(float* results, int first_head, int n_heads, const StateTarget& target) {
  if (target.transformed) {
    for (int h = threadIdx.x / 32; h < n_heads; h += decode_warps) {
      warp_hadamard(results + h * (head_dim + 4), head_dim);
    }
    __syncthreads();
  }
  float4* out = reinterpret_cast<float4*>(target.out + first_head * head_dim);
  for (int at = threadIdx.x; at < n_heads * head_dim / 4; at += decode_threads) {
    const int head = at / (head_dim / 4), dim = at % (head_dim / 4) * 4;
    out[at] = *reinterpret_cast<const float4*>(results + head * (head_dim + 4) + dim);
  }
}

/// True in the CTA that is the last of `n` to come here; the counter is then zero again, and what the others
/// wrote is visible. All threads call it.
__device__ inline bool arrives_last(int* counter, int n) {
  __shared__ bool last;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    last = atomicAdd(counter, 1) == n - 1;
    if (last) *counter = 0;
    __threadfence();
  }
  __syncthreads();
  return last;
}

}  // namespace cga::cuda
