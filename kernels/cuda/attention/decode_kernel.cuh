// Decoding: one row a sequence. A CTA takes one split of a sequence, one KV head and up to 8 of its query
// heads. Each of its four warps walks every fourth unit of the split with buffers and a softmax state of its
// own, so that nothing in the loop waits for another warp. Units of a choice may be residents or nothing,
// warp by warp; a kernel of its own takes choices, so that those who read pages pay nothing for it.
#pragma once

#include <algorithm>

#include "kernels/cuda/attention/decode_merge.cuh"
#include "kernels/cuda/attention/decode_resident.cuh"
#include "kernels/cuda/attention/decode_unit.cuh"
#include "kernels/cuda/attention/dispatch.h"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/every_device.h"

namespace cga::cuda {

template <KvElement element, int head_dim>
struct DecodeMemory {
  static constexpr int unit_bytes = UnitBuffer<element, head_dim>::bytes;
  static constexpr int stages = std::clamp(10240 / unit_bytes, 2, 4);  // units of a warp under way
  static constexpr int query_bytes = tile_heads * (head_dim + 4) * 4;
  static constexpr int merge_bytes = decode_warps * query_bytes;  // the warps' sums, where buffers were
  // bf16 of 128 has room for three CTAs a multiprocessor; codes cost instructions and want more warps.
  static constexpr int ctas = element == KvElement::bf16 && head_dim == 128 ? 3 : most_ctas;
  static constexpr int shared_bytes = query_bytes + std::max(decode_warps * stages * unit_bytes, merge_bytes);
};

/// One warp's softmax state for the tile's heads; of a thread, heads 2t and 2t + 1.
template <int head_dim>
struct WarpState {
  float m[2] = {-INFINITY, -INFINITY};
  float l[2] = {0, 0};  // of tokens g and g + 8 of each unit, until the end
  float sums[head_dim / 16][4] = {};

  /// Turns scores (log2) into weights.
  __device__ void advance(float (&scores)[4]) {
    float fade[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float largest = fmaxf(scores[i], scores[i + 2]);
#pragma unroll
      for (int lanes = 4; lanes < 32; lanes *= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
      }
      largest = fmaxf(largest, m[i]);
      const float base = largest == -INFINITY ? 0.0f : largest;
      fade[i] = exp2_approx(m[i] - base);
      m[i] = largest;
      scores[i] = exp2_approx(scores[i] - base);
      scores[i + 2] = exp2_approx(scores[i + 2] - base);
      l[i] = l[i] * fade[i] + (scores[i] + scores[i + 2]);
    }
    if (!__any_sync(~0u, fade[0] != 1 || fade[1] != 1)) return;  // times 1: the same bits
#pragma unroll
    for (int tile = 0; tile < head_dim / 16; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[tile][i] *= fade[i % 2];
    }
  }
};

/// The units of a split that one warp walks: every fourth. Lanes hold the ids of 32 of them.
template <bool choice>
struct UnitWalk {
  const std::int32_t* ids;  // from the split's first: of units of a choice, else of pages
  int warp, count;          // units of this warp
  int held = 0;

  /// The id of the warp's i-th unit; called for i = 0, 1, 2, … by the whole warp.
  __device__ int next(int i) {
    const int lane = threadIdx.x % 32;
    if (i % 32 == 0 && i + lane < count) {
      held = choice ? ids[4 * (i + lane) + warp] : ids[i + lane] * 4 + warp;
    }
    return __shfl_sync(~0u, held, i % 32);
  }
};

enum class UnitKind : unsigned { page, resident, none };

/// The kinds of a warp's units under way, by stage: copied earlier than they are multiplied.
struct UnitKinds {
  unsigned bits = 0;

  __device__ void set(int stage, UnitKind kind) {
    bits = (bits & ~(3u << 2 * stage)) | static_cast<unsigned>(kind) << 2 * stage;
  }
  __device__ UnitKind at(int stage) const { return static_cast<UnitKind>(bits >> 2 * stage & 3u); }
};

/// One warp begins to copy a unit, of whichever kind. @return which
template <KvElement element, int head_dim, bool choice>
__device__ inline UnitKind copy_any_unit(std::uint32_t buffer, const AttendArgs& args, int unit, int kv_head,
                                         int n_valid) {
  if constexpr (choice) {
    if (unit == no_unit) return UnitKind::none;
    if (unit < 0) {
      copy_resident<head_dim>(buffer, args.residents, resident_unit(unit), kv_head);
      return UnitKind::resident;
    }
  }
  const PageView<element> pages{args.base, args.layout.n_kv_heads, head_dim};
  copy_unit<element, head_dim>(buffer, pages, unit, kv_head, n_valid);
  return UnitKind::page;
}

/// The tile's queries to shared memory, zeros where there is no head; transformed for q4.
template <KvElement element, int head_dim>
__device__ inline void stage_queries(float* queries, const float* q, int n_heads) {
  for (int at = threadIdx.x; at < tile_heads * head_dim / 4; at += decode_threads) {
    const int head = at / (head_dim / 4), dim = at % (head_dim / 4) * 4;
    *reinterpret_cast<float4*>(queries + head * (head_dim + 4) + dim) =
        head < n_heads ? reinterpret_cast<const float4*>(q)[at] : float4{0, 0, 0, 0};
  }
  __syncthreads();
  if constexpr (element == KvElement::q4) {
    for (int h = threadIdx.x / 32; h < n_heads; h += decode_warps) {
      warp_hadamard(queries + h * (head_dim + 4), head_dim);
    }
    __syncthreads();
  }
}

/// Merges the four warps' states to a slot, or to `results` as the end result.
/// @param sums  [decode_warps, tile_heads, head_dim + 4], f32, in shared memory, where buffers were
template <KvElement element, int head_dim>
__device__ void merge_warps(const WarpState<head_dim>& state, float* sums, float* results,
                            const StateSlots& slots, int slot, int first_head, int n_heads) {
  __shared__ float2 states[decode_warps][tile_heads];
  constexpr int pitch = head_dim + 4;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  wait_copies<0>();
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    float total = state.l[i];
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) total += __shfl_xor_sync(~0u, total, lanes);
    if (g == 0) states[warp][2 * t + i] = {state.m[i], total};
    float* to = sums + (warp * tile_heads + 2 * t + i) * pitch;
#pragma unroll
    for (int tile = 0; tile < head_dim / 16; ++tile) {
      to[sum_dim<element>(tile, g, 0)] = state.sums[tile][i] / weight_unit<element>;
      to[sum_dim<element>(tile, g, 1)] = state.sums[tile][i + 2] / weight_unit<element>;
    }
  }
  __syncthreads();
  for (int at = threadIdx.x; at < n_heads * head_dim; at += decode_threads) {
    const int head = at / head_dim, dim = at % head_dim;
    float largest = states[0][head].x;
    for (int w = 1; w < decode_warps; ++w) largest = fmaxf(largest, states[w][head].x);
    float sum = 0, total = 0;
    for (int w = 0; w < decode_warps; ++w) {
      const float weight = state_weight(states[w][head].x, largest);
      total += weight * states[w][head].y;
      sum += weight * sums[(w * tile_heads + head) * pitch + dim];
    }
    if (slot < 0) {
      results[head * pitch + dim] = sum / total;
    } else {
      __stcg(slots.sum(slot, first_head + head) + dim, sum);
      if (dim == 0) __stcg(slots.state(slot, first_head + head), make_float2(largest, total));
    }
  }
}

/// Grid: [splits of the longest sequence, tiles of heads, sequences].
template <KvElement element, int head_dim, bool choice>
__global__ void __launch_bounds__(decode_threads, DecodeMemory<element, head_dim>::ctas)
    decode_kernel(AttendArgs args, DecodeWorkspace plan) {
  using Memory = DecodeMemory<element, head_dim>;
  extern __shared__ __align__(16) std::byte shared[];
  const SequenceMeta meta = args.sequences[blockIdx.z];
  const int length = meta.position + 1, split = blockIdx.x;
  const int most = long_splits(gridDim.y, Memory::ctas), tokens = split_tokens(length, most);
  const int begin = split * tokens;
  if (meta.n_tokens == 0 || begin >= length) return;
  const int group = args.n_heads / args.layout.n_kv_heads, tiles = (group + tile_heads - 1) / tile_heads;
  const int kv_head = blockIdx.y / tiles, tile = blockIdx.y % tiles;
  const int first_head = kv_head * group + tile * tile_heads;
  const int n_heads = min(tile_heads, group - tile * tile_heads);
  const std::int64_t row = std::int64_t{meta.first_row} * args.n_heads * head_dim;

  float* queries = reinterpret_cast<float*>(shared);
  std::byte* buffers = shared + Memory::query_bytes;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4;
  std::byte* own = buffers + warp * Memory::stages * Memory::unit_bytes;
  const int first_unit = begin / unit_tokens + warp;
  const int end_unit = (min(length, begin + tokens) + unit_tokens - 1) / unit_tokens;
  const std::int32_t* ids = args.pages + meta.first_page + begin / (choice ? unit_tokens : page_tokens);
  UnitWalk<choice> walk{ids, warp, max(0, (end_unit - first_unit + 3) / 4)};
  UnitKinds kinds;
  const auto begin_copy = [&](int i) {
    if (i < walk.count) {
      const int n_valid = min(length - (first_unit + 4 * i) * unit_tokens, unit_tokens);
      const int stage = i % Memory::stages;
      kinds.set(stage,
                copy_any_unit<element, head_dim, choice>(shared_address(own + stage * Memory::unit_bytes),
                                                         args, walk.next(i), kv_head, n_valid));
    }
    commit_copies();  // perhaps of nothing, so that counting groups counts units
  };
  for (int i = 0; i < Memory::stages; ++i) begin_copy(i);

  stage_queries<element, head_dim>(queries, args.q + row + first_head * head_dim, n_heads);
  QueryFragments<head_dim> q;
  load_queries<element, head_dim>(q, queries);
  WarpState<head_dim> state;
  const float scale = args.scale * 1.44269504f;  // scores in units of log2
  for (int i = 0; i < walk.count; ++i) {
    wait_copies<Memory::stages - 1>();
    __syncwarp();
    const std::byte* unit = own + i % Memory::stages * Memory::unit_bytes;
    const int n_valid = length - (first_unit + 4 * i) * unit_tokens;
    const UnitKind kind = choice ? kinds.at(i % Memory::stages) : UnitKind::page;
    if (kind != UnitKind::none) {
      float scores[4];
      if (kind == UnitKind::resident) {
        resident_scores<head_dim>(scores, q, unit);
      } else {
        unit_scores<element, head_dim>(scores, q, unit);
      }
#pragma unroll
      for (int j = 0; j < 4; ++j) scores[j] = g + j / 2 * 8 < n_valid ? scores[j] * scale : -INFINITY;
      state.advance(scores);
      if (kind == UnitKind::resident) {
        add_resident_values<head_dim>(state.sums, scores, unit);
      } else {
        add_values<element, head_dim>(state.sums, scores, unit);
      }
    }
    __syncwarp();
    begin_copy(i + Memory::stages);
  }

  auto* counters = reinterpret_cast<int*>(args.workspace) + plan.counter(blockIdx.z, blockIdx.y);
  auto* states = reinterpret_cast<float2*>(args.workspace + plan.state_offset());
  auto* sums = reinterpret_cast<float*>(args.workspace + plan.sum_offset());
  const std::int64_t first = plan.vector(blockIdx.z, 0, 0);
  const StateSlots slots{states + first, sums + first * head_dim, args.n_heads, head_dim};
  const StateTarget end{-1, args.out + row, element == KvElement::q4};
  const int splits = n_splits(length, most);
  merge_warps<element, head_dim>(state, reinterpret_cast<float*>(buffers), queries, slots,
                                 splits == 1 ? -1 : split, first_head, n_heads);
  if (splits > 1 && splits <= most_merged) {
    if (!arrives_last(counters, splits)) return;
    merge_slots<head_dim>(slots, 0, splits, first_head, n_heads, end, queries);
  } else if (splits > most_merged) {
    const int neighbours = split / merge_group, first_slot = neighbours * merge_group;
    const int n = min(merge_group, splits - first_slot), merged = plan.n_slots - merge_group;
    if (!arrives_last(counters + 1 + neighbours, n)) return;
    const StateTarget part{merged + neighbours, nullptr, false};
    merge_slots<head_dim>(slots, first_slot, n, first_head, n_heads, part, queries);
    const int n_merged = (splits + merge_group - 1) / merge_group;
    if (!arrives_last(counters, n_merged)) return;
    merge_slots<head_dim>(slots, merged, n_merged, first_head, n_heads, end, queries);
  }
  __syncthreads();
  write_results<head_dim>(queries, first_head, n_heads, end);
}

/// Sequences that all read pages, or all choices.
template <KvElement element, int head_dim, bool choice>
void launch_decode_kind(const AttendArgs& args, cudaStream_t stream) {
  constexpr int shared = DecodeMemory<element, head_dim>::shared_bytes;
  static_assert(shared <= least_shared_per_cta);
  check(cudaFuncSetAttribute(decode_kernel<element, head_dim, choice>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, shared),
        "attend_decode");
  const int group = args.n_heads / args.layout.n_kv_heads;
  const int tiles = decode_tiles(args.layout.n_kv_heads, group),
            most = long_splits(tiles, DecodeMemory<element, head_dim>::ctas);
  const int splits = max_splits(args.max_tokens, most);
  AttendArgs part = args;
  for (int first = 0; first < args.n_sequences; first += launch_sequences) {
    part.sequences = args.sequences + first;
    part.n_sequences = std::min(launch_sequences, args.n_sequences - first);
    const dim3 grid(splits, tiles, part.n_sequences);
    const DecodeWorkspace plan(args.n_heads, head_dim, part.n_sequences, splits);
    decode_kernel<element, head_dim, choice><<<grid, decode_threads, shared, stream>>>(part, plan);
    check(cudaGetLastError(), "attend_decode");
  }
}

template <KvElement element, int head_dim>
void launch_decode(const AttendArgs& args, cudaStream_t stream) {
  if constexpr (element == KvElement::bf16) {  // what choices are made of
    if (args.units) return launch_decode_kind<element, head_dim, true>(args, stream);
  }
  launch_decode_kind<element, head_dim, false>(args, stream);
}

}  // namespace cga::cuda
