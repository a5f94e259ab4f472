// A prompt's tile: 128 rows, (token, query head of one KV head) in this order, 32 a warp, against one page at
// a time. Scores, weights and sums stay in registers (FlashAttention-2, Dao, arXiv:2307.08691); the
// accumulators of scores are the A operand of the product with values.
#pragma once

#include "kernels/cuda/attention/plan.h"
#include "kernels/cuda/attention/prefill_pages.cuh"

namespace cga::cuda {

/// Which rows a CTA computes.
struct PrefillTile {
  SequenceMeta meta;
  int first_token, n_tokens;  // of the sequence's own; n_tokens = 0: nothing to do
};

/// The tile-th tile of all sequences; each warp finds it by itself.
__device__ inline PrefillTile find_tile(const SequenceMeta* sequences, int n_sequences, int tile, int group) {
  const int lane = threadIdx.x % 32;
  for (int first = 0; first < n_sequences; first += 32) {
    const SequenceMeta meta = first + lane < n_sequences ? sequences[first + lane] : SequenceMeta{};
    const int own = n_tiles(meta.n_tokens, group);
    int end = own;  // of this lane's tiles, once all lanes before have been added
    for (int distance = 1; distance < 32; distance *= 2) {
      const int before = __shfl_up_sync(~0u, end, distance);
      if (lane >= distance) end += before;
    }
    const unsigned holds = __ballot_sync(~0u, tile >= end - own && tile < end);
    if (holds != 0) {
      const int from = __ffs(static_cast<int>(holds)) - 1;
      const int first_token = (tile - __shfl_sync(~0u, end - own, from)) * tile_tokens(group);
      const SequenceMeta found = sequences[first + from];
      return {found, first_token, min(tile_tokens(group), found.n_tokens - first_token)};
    }
    tile -= __shfl_sync(~0u, end, 31);
  }
  return {{}, 0, 0};
}

/// Queries as f16 rows in shared memory, zeros after the last.
/// @param q  [n_tokens, n_heads, head_dim], f32, from the tile's first token and the KV head's first head
template <int head_dim, int pitch>
__device__ inline void stage_rows(std::byte* rows, const float* q, int n_rows, int group, int n_heads) {
  constexpr int pieces = head_dim / 8;
  for (int at = threadIdx.x; at < tile_rows * pieces; at += prefill_threads) {
    const int row = at / pieces, piece = at % pieces;
    uint4 values = {};
    if (row < n_rows) {
      const std::int64_t vector = std::int64_t{row / group} * n_heads + row % group;
      const auto* from = reinterpret_cast<const float4*>(q + vector * head_dim + piece * 8);
      const float4 a = from[0], b = from[1];
      values = {pack<__half>(a.x, a.y), pack<__half>(a.z, a.w), pack<__half>(b.x, b.y),
                pack<__half>(b.z, b.w)};
    }
    *reinterpret_cast<uint4*>(rows + row * pitch + piece * 16) = values;
  }
}

/// One warp's 32 rows: of a thread, rows g and g + 8 of both 16, numbered 0 to 3.
template <int head_dim>
struct WarpRows {
  static constexpr int pitch = 2 * head_dim + 16;  // bytes of a row of queries, keys or values
  static constexpr int n_scores = page_tokens / 8, n_sums = head_dim / 8;
  float scores[2][n_scores][4];
  float sums[2][n_sums][4] = {};
  float m[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
  float l[4] = {};  // of this thread's columns, until the end

  /// scores = queries · keys^T.  @param queries, keys  addresses in shared memory of the warp's rows, the
  /// page
  __device__ void multiply_keys(std::uint32_t queries, std::uint32_t keys) {
    const int lane = threadIdx.x % 32;
    const std::uint32_t query = queries + lane % 16 * pitch + lane / 16 * 16;
    const std::uint32_t key = keys + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int n = 0; n < n_scores; ++n)
        scores[r][n][0] = scores[r][n][1] = scores[r][n][2] = scores[r][n][3] = 0;
    }
#pragma unroll
    for (int k = 0; k < head_dim / 16; ++k) {
      std::uint32_t a[2][4];
      load_matrices(a[0], query + k * 32);
      load_matrices(a[1], query + 16 * pitch + k * 32);
#pragma unroll
      for (int n = 0; n < n_scores; n += 2) {
        std::uint32_t b[4];
        load_matrices(b, key + n * 8 * pitch + k * 32);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          mma<__half>(scores[r][n], a[r], b[0], b[1]);
          mma<__half>(scores[r][n + 1], a[r], b[2], b[3]);
        }
      }
    }
  }

  /// Hides tokens after a row's own.  @param last  of the thread's rows: the last token they see, in the page
  __device__ void mask(const int (&last)[4]) {
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int n = 0; n < n_scores; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          if (n * 8 + 2 * t + i % 2 > last[2 * r + i / 2]) scores[r][n][i] = -INFINITY;
        }
      }
    }
  }

  /// Turns scores into weights, and fades what was summed before where a larger score has come.
  __device__ void advance(float scale) {
    float fade[4];
#pragma unroll
    for (int row = 0; row < 4; ++row) {
      const int r = row / 2, i = row % 2 * 2;
      float largest = m[row];
#pragma unroll
      for (int n = 0; n < n_scores; ++n) {
        largest = fmaxf(largest, fmaxf(scores[r][n][i], scores[r][n][i + 1]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, 2));
      const float base = largest == -INFINITY ? 0.0f : largest * scale;
      fade[row] = exp2_approx(m[row] * scale - base);
      m[row] = largest;
      float total = 0;
#pragma unroll
      for (int n = 0; n < n_scores; ++n) {
        scores[r][n][i] = exp2_approx(__fmaf_rn(scores[r][n][i], scale, -base));
        scores[r][n][i + 1] = exp2_approx(__fmaf_rn(scores[r][n][i + 1], scale, -base));
        total += scores[r][n][i] + scores[r][n][i + 1];
      }
      l[row] = l[row] * fade[row] + total;
    }
    const bool fades = fade[0] != 1 || fade[1] != 1 || fade[2] != 1 || fade[3] != 1;
    if (!__any_sync(~0u, fades)) return;  // times 1: the same bits
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int n = 0; n < n_sums; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[r][n][i] *= fade[2 * r + i / 2];
      }
    }
  }

  /// sums += weights · values.  @param values  address in shared memory of the page
  __device__ void multiply_values(std::uint32_t values) {
    const int lane = threadIdx.x % 32;
    const std::uint32_t value = values + lane % 16 * pitch + lane / 16 * 16;
#pragma unroll
    for (int k = 0; k < page_tokens / 16; ++k) {
      std::uint32_t a[2][4];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float(&pair)[4] = scores[r][2 * k + i / 2];
          a[r][i] = pack<__half>(pair[i % 2 * 2], pair[i % 2 * 2 + 1]);
        }
      }
#pragma unroll
      for (int n = 0; n < n_sums; n += 2) {
        std::uint32_t b[4];
        load_matrices_transposed(b, value + k * 16 * pitch + n * 16);
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          mma<__half>(sums[r][n], a[r], b[0], b[1]);
          mma<__half>(sums[r][n + 1], a[r], b[2], b[3]);
        }
      }
    }
  }

  /// @param out    as q of stage_rows
  /// @param first  the warp's first row in the tile
  __device__ void write(float* out, int first, int n_rows, int group, int n_heads) {
    const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float total = l[i] + __shfl_xor_sync(~0u, l[i], 1);
      total += __shfl_xor_sync(~0u, total, 2);
      const int row = first + i / 2 * 16 + i % 2 * 8 + g;
      if (row >= n_rows) continue;
      const float factor = 1.0f / total;
      const std::int64_t vector = std::int64_t{row / group} * n_heads + row % group;
      auto* to = reinterpret_cast<float2*>(out + vector * head_dim) + t;
#pragma unroll
      for (int n = 0; n < n_sums; ++n) {
        const float(&pair)[4] = sums[i / 2][n];
        to[n * 4] = {pair[i % 2 * 2] * factor, pair[i % 2 * 2 + 1] * factor};
      }
    }
  }
};

}  // namespace cga::cuda
