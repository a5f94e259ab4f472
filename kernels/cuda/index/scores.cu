// Scores of units. Four lanes take a unit, four of its tokens each: a word of a unit's keys is one channel of
// four tokens, and four words are turned into four tokens' four channels for dp4a. Products of codes are
// exact in 32 bits; what follows is f32 in the order of heads, as in the reference. Each CTA rounds the row's
// queries for itself: they are few beside its keys, and a kernel before would take longer.
#include <algorithm>

#include "kernels/cuda/index/index.h"
#include "kernels/cuda/index/rounded.cuh"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int threads = 128, lane_tokens = 4, unit_lanes = unit_tokens / lane_tokens;
constexpr int cta_units = threads / unit_lanes;
constexpr int most_query_bytes = 16 << 10;  // of shared memory; more heads take turns

/// Four channels of four tokens, one word a channel, to one word a token.
__device__ inline void turn(unsigned (&x)[lane_tokens]) {
  const unsigned low01 = __byte_perm(x[0], x[1], 0x5140), high01 = __byte_perm(x[0], x[1], 0x7362);
  const unsigned low23 = __byte_perm(x[2], x[3], 0x5140), high23 = __byte_perm(x[2], x[3], 0x7362);
  x[0] = __byte_perm(low01, low23, 0x5410);
  x[1] = __byte_perm(low01, low23, 0x7632);
  x[2] = __byte_perm(high01, high23, 0x5410);
  x[3] = __byte_perm(high01, high23, 0x7632);
}

/// Channels 4 * word to 4 * word + 3 of the lane's tokens.
/// @param keys  of the unit, from the lane's first token: channel c is keys[unit_lanes * c]
__device__ inline void load_word(unsigned (&x)[lane_tokens], const unsigned* keys, int word) {
#pragma unroll
  for (int c = 0; c < 4; ++c) x[c] = keys[unit_lanes * (4 * word + c)];
  turn(x);
}

/// The keys of a lane's tokens: in registers, or, for a width that is not known beforehand, where they are.
template <int words>
struct LaneKeys {
  unsigned x[words][lane_tokens];
  __device__ LaneKeys(const unsigned* keys, int) {
#pragma unroll
    for (int word = 0; word < words; ++word) load_word(x[word], keys, word);
  }
  __device__ void multiply(int (&dots)[lane_tokens], const int* query) const {
#pragma unroll
    for (int word = 0; word < words; ++word) {
      const int q = query[word];
#pragma unroll
      for (int t = 0; t < lane_tokens; ++t) dots[t] = __dp4a(static_cast<int>(x[word][t]), q, dots[t]);
    }
  }
};
template <>
struct LaneKeys<0> {
  const unsigned* keys;
  int n_words;
  __device__ LaneKeys(const unsigned* from, int width) : keys(from), n_words(width / 4) {}
  __device__ void multiply(int (&dots)[lane_tokens], const int* query) const {
    for (int word = 0; word < n_words; ++word) {
      unsigned x[lane_tokens];
      load_word(x, keys, word);
      for (int t = 0; t < lane_tokens; ++t) dots[t] = __dp4a(static_cast<int>(x[t]), query[word], dots[t]);
    }
  }
};

/// Rounds queries of n heads from first_head on, and makes their scales and 1 / sqrt(width) part of the
/// weights.
/// @param codes    [n, width], i8, in shared memory
/// @param weights  [n], f32, in shared memory
__device__ void round_queries(const ScoreUnitsArgs& args, int row, int first_head, int n, signed char* codes,
                              float* weights) {
  const int width = args.layout.width;
  const float* cos_sin = args.cos_sin + std::int64_t{row} * (width / 2);
  for (int j = threadIdx.x / 32; j < n; j += threads / 32) {
    const std::int64_t at = std::int64_t{row} * args.n_heads + first_head + j;
    const float* x = args.q + at * width;
    const float scale = warp_scale(x, cos_sin, width);
    for (int i = threadIdx.x % 32; i < width; i += 32) {
      codes[j * width + i] = index_code(rotated(x, cos_sin, width, i), scale);
    }
    if (threadIdx.x % 32 == 0) {
      const float root = __fsqrt_rn(static_cast<float>(width));
      weights[j] = __fmul_rn(__fdiv_rn(args.weights[at], root), scale);
    }
  }
}

/// Grid: [rows, units of a row / cta_units].  Shared memory: codes of `together` heads, then their weights.
/// @tparam words  width / 4; 0: any
template <int words>
__global__ void __launch_bounds__(threads) score_kernel(ScoreUnitsArgs args, int together) {
  extern __shared__ __align__(16) signed char codes[];
  const ScoredMeta row = args.rows[blockIdx.x];
  const int first = row.first + blockIdx.y * cta_units;
  if (first >= row.last) return;
  const int width = args.layout.width, lane = threadIdx.x % unit_lanes;
  const int unit = first + threadIdx.x / unit_lanes;
  const std::byte* at =
      args.base +
      args.pages[row.first_page + min(unit, row.last - 1) / page_units] * args.layout.page_bytes() +
      min(unit, row.last - 1) % page_units * args.layout.unit_bytes();
  const LaneKeys<words> keys(reinterpret_cast<const unsigned*>(at) + lane, width);
  const float4 scales = *reinterpret_cast<const float4*>(at + width * unit_tokens + lane * 16);

  auto* weights = reinterpret_cast<float*>(codes + together * width);
  float sums[lane_tokens] = {};
  for (int head = 0; head < args.n_heads; head += together) {
    const int n = min(together, args.n_heads - head);
    __syncthreads();
    round_queries(args, row.row, head, n, codes, weights);
    __syncthreads();
    for (int j = 0; j < n; ++j) {
      int dots[lane_tokens] = {};
      keys.multiply(dots, reinterpret_cast<const int*>(codes + j * width));
#pragma unroll
      for (int t = 0; t < lane_tokens; ++t) {
        sums[t] = __fadd_rn(sums[t], __fmul_rn(weights[j], static_cast<float>(max(0, dots[t]))));
      }
    }
  }
  float best = fmaxf(fmaxf(__fmul_rn(sums[0], scales.x), __fmul_rn(sums[1], scales.y)),
                     fmaxf(__fmul_rn(sums[2], scales.z), __fmul_rn(sums[3], scales.w)));
  for (int lanes = 1; lanes < unit_lanes; lanes *= 2) {
    best = fmaxf(best, __shfl_xor_sync(~0u, best, lanes));
  }
  if (lane == 0 && unit < row.last) args.scores[blockIdx.x * args.stride + unit] = best;
}

template <int words>
void launch(const ScoreUnitsArgs& args, cudaStream_t stream) {
  const int head_bytes = args.layout.width + static_cast<int>(sizeof(float));
  const int together = std::clamp(most_query_bytes / head_bytes, 1, args.n_heads);
  const dim3 grid(args.n_rows, (args.most_units + cta_units - 1) / cta_units);
  score_kernel<words>
      <<<grid, threads, static_cast<std::size_t>(together * head_bytes), stream>>>(args, together);
  check(cudaGetLastError(), "score_units");
}

}  // namespace

void score_units(const ScoreUnitsArgs& args, cudaStream_t stream) {
  if (args.n_rows == 0 || args.most_units <= 0) return;
  switch (args.layout.width) {
    case 32:
      return launch<8>(args, stream);
    case 64:
      return launch<16>(args, stream);
    default:
      return launch<0>(args, stream);
  }
}

}  // namespace cga::cuda
