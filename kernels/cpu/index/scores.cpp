// Ops::score_units. Codes are multiplied as floats: a sum of width products of int8 is below 2^24 and exact,
// one fused multiply-add does what a widening integer product and a sum would, and its lanes stay in order on
// every instruction set.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/checked.h"
#include "kernels/cpu/index/index.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/index/scores.cpp"
// SVE's vectors cannot be array elements; its machines have NEON.
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
// clang-format off
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>
// clang-format on

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, unit_tokens>;
using Floats = hn::Vec<F>;
constexpr int lanes = static_cast<int>(hn::MaxLanes(F()));
constexpr int vectors = unit_tokens / lanes;
/// Heads whose sums fit the registers beside a row of keys.
constexpr int max_heads = lanes >= 16 ? 12 : lanes == 8 ? 6 : 3;
constexpr std::int32_t at_once = 64;  // channels that are widened together

/// Sums of H heads over some channels.  q: [H] rows, `stride` apart; keys: [n, 16]; sums: [H, 16]
template <int H>
HWY_INLINE void multiply_heads(const float* q, std::int64_t stride, const float* keys, std::int32_t n,
                               float* sums) {
  const F f;
  Floats sum[H][vectors];
  for (int j = 0; j < H; ++j) {
    for (int v = 0; v < vectors; ++v) sum[j][v] = hn::Load(f, sums + j * unit_tokens + v * lanes);
  }
  for (std::int32_t i = 0; i < n; ++i) {
    Floats key[vectors];
    for (int v = 0; v < vectors; ++v) key[v] = hn::Load(f, keys + i * unit_tokens + v * lanes);
    for (int j = 0; j < H; ++j) {
      const Floats factor = hn::Set(f, q[j * stride + i]);
      for (int v = 0; v < vectors; ++v) sum[j][v] = hn::MulAdd(factor, key[v], sum[j][v]);
    }
  }
  for (int j = 0; j < H; ++j) {
    for (int v = 0; v < vectors; ++v) hn::Store(sum[j][v], f, sums + j * unit_tokens + v * lanes);
  }
}

template <int H>
HWY_INLINE void multiply_up_to(int n_heads, const float* q, std::int64_t stride, const float* keys,
                               std::int32_t n, float* sums) {
  if (n_heads == H) {
    multiply_heads<H>(q, stride, keys, n, sums);
  } else if constexpr (H > 1) {
    multiply_up_to<H - 1>(n_heads, q, stride, keys, n, sums);
  }
}

HWY_INLINE void widen_codes(const std::int8_t* codes, std::int32_t n, float* out) {
  const F f;
  const hn::Rebind<std::int8_t, F> bytes;
  const hn::Rebind<std::int32_t, F> words;
  for (std::int32_t i = 0; i < n; i += lanes) {
    hn::Store(hn::ConvertTo(f, hn::PromoteTo(words, hn::LoadU(bytes, codes + i))), f, out + i);
  }
}

/// The best token of a unit.  q: [n_heads, width]; weights: [n_heads]
float score_unit(const IndexUnit& unit, std::int32_t width, const float* q, const float* weights,
                 std::int32_t n_heads) {
  const F f;
  HWY_ALIGN float keys[at_once * unit_tokens];
  HWY_ALIGN float sums[max_heads * unit_tokens];
  Floats total[vectors];
  for (Floats& part : total) part = hn::Zero(f);
  const std::int32_t n_groups = (n_heads + max_heads - 1) / max_heads;
  for (std::int32_t group = 0; group < n_groups; ++group) {
    const std::int32_t first = n_heads * group / n_groups, last = n_heads * (group + 1) / n_groups;
    for (std::int32_t i = 0; i < (last - first) * unit_tokens; ++i) sums[i] = 0.0f;
    for (std::int32_t at = 0; at < width; at += at_once) {
      const std::int32_t n = HWY_MIN(at_once, width - at);
      if (group == 0 || width > at_once) widen_codes(unit.codes + at * unit_tokens, n * unit_tokens, keys);
      multiply_up_to<max_heads>(last - first, q + std::int64_t{first} * width + at, width, keys, n, sums);
    }
    for (std::int32_t j = first; j < last; ++j) {
      for (int v = 0; v < vectors; ++v) {
        const Floats dot = hn::Load(f, sums + (j - first) * unit_tokens + v * lanes);
        total[v] = hn::MulAdd(hn::Set(f, weights[j]), hn::Max(dot, hn::Zero(f)), total[v]);
      }
    }
  }
  Floats best = hn::Mul(total[0], hn::LoadU(f, unit.scales));
  for (int v = 1; v < vectors; ++v) {
    best = hn::Max(best, hn::Mul(total[v], hn::LoadU(f, unit.scales + v * lanes)));
  }
  return hn::GetLane(hn::MaxOfLanes(f, best));
}

/// Units [first, last) of a row.  scores: unit u at u
void score_range(const IndexPages& pages, const std::int32_t* ids, std::int32_t first, std::int32_t last,
                 const float* q, const float* weights, std::int32_t n_heads, float* scores) {
  for (std::int32_t u = first; u < last; ++u) {
    const IndexUnit unit = index_unit(pages.base, pages.layout, ids, u);
    scores[u] = score_unit(unit, pages.layout.width, q, weights, n_heads);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cga::cpu {
namespace {

HWY_EXPORT(score_range);

/// Units of one task: some microseconds' work.
constexpr std::int32_t task_units = 32;

}  // namespace

void score_units(const ScoreUnitsParams& params, ThreadPool& pool, IndexScratch& scratch) {
  const std::int64_t width = params.pages.layout.width, n_heads = params.n_heads;
  const auto n_rows = static_cast<std::int64_t>(params.rows.size());
  scratch.queries.resize(static_cast<std::size_t>(n_rows * n_heads * width));
  scratch.weights.resize(static_cast<std::size_t>(n_rows * n_heads));
  const float root = std::sqrt(static_cast<float>(width));
  std::int32_t most = 0;
  for (std::int64_t i = 0; i < n_rows; ++i) {
    const ScoredRow& row = params.rows[static_cast<std::size_t>(i)];
    most = std::max(most, row.last - row.first);
    for (std::int64_t j = 0; j < n_heads; ++j) {
      const std::int64_t from = row.row * n_heads + j, to = i * n_heads + j;
      const float scale = rotate_and_round(params.q + from * width, params.cos_sin + row.row * width / 2,
                                           static_cast<std::int32_t>(width),
                                           &scratch.queries[static_cast<std::size_t>(to * width)]);
      scratch.weights[static_cast<std::size_t>(to)] = params.weights[from] / root * scale;
    }
  }
  const std::int64_t parts = div_up(most, task_units);
  pool.parallel_for(n_rows * parts, [&](std::int64_t task, int) {
    const std::int64_t i = task / parts;
    const ScoredRow& row = params.rows[static_cast<std::size_t>(i)];
    const auto first = static_cast<std::int32_t>(row.first + task % parts * task_units);
    HWY_DYNAMIC_DISPATCH(score_range)
    (params.pages, row.pages.data(), first, std::min(first + task_units, row.last),
     &scratch.queries[static_cast<std::size_t>(i * n_heads * width)],
     &scratch.weights[static_cast<std::size_t>(i * n_heads)], params.n_heads,
     params.scores + i * params.stride);
  });
}

}  // namespace cga::cpu
#endif  // HWY_ONCE
