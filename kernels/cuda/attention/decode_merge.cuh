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

/// The weights of up to most_merged states, and their merged (m, l) if the target is a slot.
__device__ inline void weigh_slots(float (&weights)[tile_heads][most_merged], const StateSlots& slots,
                                   int first_slot, int n_slots, int first_head, int n_heads,
                                   const StateTarget& target) {
  constexpr int lanes = decode_threads / tile_heads, each = most_merged / lanes;  // states a thread
  const int lane = threadIdx.x % lanes, h = threadIdx.x / lanes;
  float2 state[each];
  float largest = -INFINITY, total = 0;
#pragma unroll
  for (int i = 0; i < each; ++i) {
    const int slot = lane + i * lanes;
    state[i] = {-INFINITY, 0};
    if (slot < n_slots && h < n_heads) state[i] = __ldcg(slots.state(first_slot + slot, first_head + h));
    largest = fmaxf(largest, state[i].x);
  }
  for (int other = lanes / 2; other > 0; other /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, other));
  }
#pragma unroll
  for (int i = 0; i < each; ++i) {
    state[i].x = state_weight(state[i].x, largest);
    total += state[i].x * state[i].y;
  }
  for (int other = lanes / 2; other > 0; other /= 2) total += __shfl_xor_sync(~0u, total, other);
#pragma unroll
  for (int i = 0; i < each; ++i) {
    weights[h][lane + i * lanes] = target.slot < 0 ? state[i].x / total : state[i].x;
  }
  if (target.slot >= 0 && lane == 0 && h < n_heads) {
    __stcg(slots.state(target.slot, first_head + h), make_float2(largest, total));
  }
}

/// Merges up to most_merged states from consecutive slots. All threads of the CTA call it.
/// @param first_head  of n_heads <= tile_heads
/// @param scratch     [tile_heads, head_dim + 4], f32, in shared memory
template <int head_dim>
__device__ void merge_slots(const StateSlots& slots, int first_slot, int n_slots, int first_head, int n_heads,
                            const StateTarget& target, float* scratch) {
  __shared__ float weights[tile_heads][most_merged];
  weigh_slots(weights, slots, first_slot, n_slots, first_head, n_heads, target);
  __syncthreads();
  for (int at = threadIdx.x; at < n_heads * head_dim / 4; at += decode_threads) {
    const int head = at / (head_dim / 4), dim = at % (head_dim / 4) * 4;
    const float* from = slots.sum(first_slot, first_head + head) + dim;
    const std::int64_t step = slots.sum(1, 0) - slots.sum(0, 0);
    float4 sum = {0, 0, 0, 0};
    constexpr int together = 16;
    for (int s = 0; s < n_slots; s += together) {
      float4 values[together];
#pragma unroll
      for (int i = 0; i < together; ++i) {  // all loads first: they take as long as one
        values[i] = {0, 0, 0, 0};
        if (s + i < n_slots) values[i] = __ldcg(reinterpret_cast<const float4*>(from + (s + i) * step));
      }
#pragma unroll
      for (int i = 0; i < together; ++i) {
        const float w = weights[head][s + i];
        sum.x += w * values[i].x, sum.y += w * values[i].y, sum.z += w * values[i].z,
            sum.w += w * values[i].w;
      }
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
