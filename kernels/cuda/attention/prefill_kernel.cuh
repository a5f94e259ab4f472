// Attention of many rows a sequence on tensor cores. A row's pages are summed one by one from position 0, and
// pages or tokens it does not see change none of its bits: its result depends on its position alone, not on
// how a prompt was cut or what else is in the batch.
#pragma once

#include "kernels/cuda/attention/dispatch.h"
#include "kernels/cuda/attention/prefill_tile.cuh"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/every_device.h"

namespace cga::cuda {

template <KvElement element, int head_dim, int atoms>
struct PrefillShape {
  using Buffer = PageBuffer<element, head_dim>;
  static constexpr int rows = 64 * atoms;            // of a tile: four warps
  static constexpr int keys = rows * Buffer::pitch;  // after the queries
  static constexpr int values = keys + Buffer::bytes;
  static constexpr int staged_keys = values + Buffer::bytes;
  static constexpr int staged_values = staged_keys + Buffer::staging_bytes;
  static constexpr int shared_bytes = staged_values + Buffer::staging_bytes;
};

/// What all pages of a tile share.
template <KvElement element, int head_dim, int atoms>
struct PrefillPages {
  using Shape = PrefillShape<element, head_dim, atoms>;
  static constexpr bool staged = Shape::Buffer::staged;
  PageView<element> view;
  const std::int32_t* ids;
  int kv_head, n_tokens;  // n_tokens: that the tile sees
  std::byte* shared;

  __device__ void copy(int page, int plane) const {
    const int to = plane == 0 ? (staged ? Shape::staged_keys : Shape::keys)
                              : (staged ? Shape::staged_values : Shape::values);
    copy_page<element, head_dim>(shared_address(shared + to), view.block(ids[page], plane, kv_head),
                                 n_tokens - page * page_tokens);
  }
  /// Before page 0.
  __device__ void begin() const {
    copy(0, 0);
    if constexpr (staged) copy(0, 1);
    commit_copies();
  }
  /// When it returns, the page's keys can be read. Codes: its values, too, and the next page is on its way.
  /// bf16: its values are, since values are read last and their buffer is free by now.
  __device__ void keys_ready(int page, int n_pages) const {
    wait_copies<0>();
    if constexpr (!staged) convert_page<head_dim>(shared + Shape::keys);
    __syncthreads();
    if constexpr (staged) {
      unpack_page<element, head_dim, 0>(shared + Shape::keys, shared + Shape::staged_keys);
      unpack_page<element, head_dim, 1>(shared + Shape::values, shared + Shape::staged_values);
      __syncthreads();
      if (page + 1 < n_pages) {
        copy(page + 1, 0);
        copy(page + 1, 1);
      }
    } else {
      copy(page, 1);
    }
    commit_copies();
  }
  /// When it returns, the page's values can be read, and keys have been read by all warps.
  __device__ void values_ready(int page, int n_pages) const {
    if constexpr (!staged) {
      wait_copies<0>();
      convert_page<head_dim>(shared + Shape::values);
      __syncthreads();
      if (page + 1 < n_pages) copy(page + 1, 0);
      commit_copies();
    }
  }
};

/// Grid: [n_kv_heads, tiles]; the last tiles, which see most pages, come first.
/// @param q  args.q, or transformed queries for q4
template <KvElement element, int head_dim, int atoms>
__global__ void __launch_bounds__(prefill_threads, 4 - atoms)
    prefill_kernel(AttendArgs args, const float* q) {
  using Shape = PrefillShape<element, head_dim, atoms>;
  constexpr int pitch = Shape::Buffer::pitch;
  extern __shared__ __align__(16) std::byte shared[];
  __shared__ int bad_from[head_dim];
  const int group = args.n_heads / args.layout.n_kv_heads, kv_head = blockIdx.x;
  const PrefillTile tile = find_tile(args.sequences, args.n_sequences,
                                     static_cast<int>(gridDim.y - 1 - blockIdx.y), Shape::rows / group);
  if (tile.n_tokens <= 0) return;
  const int first_position = tile.meta.position + tile.first_token, n_rows = tile.n_tokens * group;
  const int n_tokens = first_position + tile.n_tokens, n_pages = (n_tokens + page_tokens - 1) / page_tokens;
  const PrefillPages<element, head_dim, atoms> pages{{args.base, args.layout.n_kv_heads, head_dim},
                                                     args.pages + tile.meta.first_page,
                                                     kv_head,
                                                     n_tokens,
                                                     shared};
  pages.begin();
  const std::int64_t first =
      (std::int64_t{tile.meta.first_row + tile.first_token} * args.n_heads + kv_head * group) * head_dim;
  stage_rows<Shape::rows, head_dim, pitch>(shared, q + first, n_rows, group, args.n_heads);

  constexpr int warp_rows = 16 * atoms;
  const int warp_row = threadIdx.x / 32 * warp_rows, g = threadIdx.x % 32 / 4;
  const bool idle = warp_row >= n_rows;
  const int warp_last = first_position + (min(warp_row + warp_rows, n_rows) - 1) / group;
  const std::uint32_t queries = shared_address(shared) + warp_row * pitch;
  WarpRows<head_dim, atoms> rows;
  const float scale = args.scale * 1.44269504f;                   // scores in units of log2
  const auto last_seen = [&](int token, int(&last)[2 * atoms]) {  // by each of the thread's rows, in the page
#pragma unroll
    for (int i = 0; i < 2 * atoms; ++i) {  // divided anew for each page: registers are short elsewhere
      last[i] = first_position - token + (warp_row + i / 2 * 16 + i % 2 * 8 + g) / group;
    }
  };
  for (int page = 0; page < n_pages; ++page) {
    const int token = page * page_tokens;
    const bool sees = !idle && token <= warp_last;
    pages.keys_ready(page, n_pages);
    if (sees) rows.multiply_keys(queries, shared_address(shared + Shape::keys));
    pages.values_ready(page, n_pages);
    const bool hides = token + page_tokens - 1 > first_position;  // some tokens from some rows of the tile
    const bool broken = hides && clean_values<head_dim>(shared + Shape::values, bad_from);
    if (!sees) continue;
    int last[2 * atoms];
    if (hides) {
      last_seen(token, last);
      rows.mask(last);
    }
    rows.advance(scale);
    rows.multiply_values(shared_address(shared + Shape::values));
    if (broken) {
      last_seen(token, last);
      rows.spoil(bad_from, last);
    }
  }
  if (!idle) rows.write(args.out + first, warp_row, n_rows, group, args.n_heads);
}

template <KvElement element, int head_dim, int atoms>
void launch_prefill_tiles(const AttendArgs& args, const float* q, cudaStream_t stream) {
  using Shape = PrefillShape<element, head_dim, atoms>;
  static_assert(Shape::shared_bytes <= least_shared_per_cta);
  check(cudaFuncSetAttribute(prefill_kernel<element, head_dim, atoms>,
                             cudaFuncAttributeMaxDynamicSharedMemorySize, Shape::shared_bytes),
        "attend_prefill");
  const int tokens = Shape::rows / (args.n_heads / args.layout.n_kv_heads);
  const dim3 grid(args.layout.n_kv_heads, max_tiles(args.n_rows, args.n_sequences, tokens));
  prefill_kernel<element, head_dim, atoms><<<grid, prefill_threads, Shape::shared_bytes, stream>>>(args, q);
  check(cudaGetLastError(), "attend_prefill");
}

template <KvElement element, int head_dim>
void launch_prefill(const AttendArgs& args, const float* q, cudaStream_t stream) {
  if (small_tiles(args.n_rows, args.n_sequences, args.layout.n_kv_heads,
                  args.n_heads / args.layout.n_kv_heads)) {
    return launch_prefill_tiles<element, head_dim, 1>(args, q, stream);
  }
  launch_prefill_tiles<element, head_dim, 2>(args, q, stream);
}

}  // namespace cga::cuda
