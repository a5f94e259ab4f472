// The register tiles of attention, once per SIMD target: scores of R query rows against a page's keys, the
// online-softmax step, and the weighted sum of its values. Included by attend.cpp only, through
// foreach_target.h.
#if defined(CGA_ATTENTION_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_ATTENTION_TILE_INL_H_
#undef CGA_ATTENTION_TILE_INL_H_
#else
#define CGA_ATTENTION_TILE_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention/page.h"
#include "kernels/cpu/elementwise/exp2-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, panel_words>;
using U = hn::RebindToUnsigned<F>;
using Floats = hn::Vec<F>;
constexpr std::int32_t lanes = static_cast<std::int32_t>(hn::MaxLanes(F()));

// Six rows times two vectors (and one conversion) fill the 16 registers of AVX2.
constexpr std::int32_t max_rows = 6;

/// Pairs of vectors beside R rows: enough sums to hide the latency of FMA, few enough to stay in registers.
constexpr std::int32_t pairs_for(std::int32_t n_rows) {
  const bool many_registers = HWY_TARGET == HWY_AVX3 || HWY_ARCH_ARM_A64;
  return n_rows <= 3 || many_registers ? 2 : 1;
}

constexpr float lowest_score = -3.0e38f;  // finite: lowest - lowest is 0, not NaN

struct Pair {
  Floats lo, hi;
};

/// Widens 2 * lanes bf16: the even ones, then the odd ones.
HWY_INLINE Pair widen(const std::uint16_t* from) {
  const auto words = hn::LoadU(U(), reinterpret_cast<const std::uint32_t*>(from));
  return {hn::BitCast(F(), hn::ShiftLeft<16>(words)),
          hn::BitCast(F(), hn::And(words, hn::Set(U(), 0xffff0000u)))};
}

/// Keys of tokens [word, word + lanes) and of those 16 further on.  row: [panel_tokens], see page.h
HWY_INLINE Pair load_keys(const std::uint16_t* row, std::int32_t word) {
  return widen(row + 2 * word);
}
HWY_INLINE Pair load_keys(const float* row, std::int32_t word) {
  return {hn::LoadU(F(), row + word), hn::LoadU(F(), row + panel_words + word)};
}

/// 2 * lanes dims of a value: even and odd ones of bf16, first and second half of f32. Sums stay in that
/// order until store_dims.
HWY_INLINE Pair load_values(const std::uint16_t* from) {
  return widen(from);
}
HWY_INLINE Pair load_values(const float* from) {
  return {hn::LoadU(F(), from), hn::LoadU(F(), from + lanes)};
}
HWY_INLINE void store_dims(const Pair& pair, const std::uint16_t*, float* out) {
  hn::StoreInterleaved2(pair.lo, pair.hi, F(), out);
}
HWY_INLINE void store_dims(const Pair& pair, const float*, float* out) {
  hn::StoreU(pair.lo, F(), out);
  hn::StoreU(pair.hi, F(), out + lanes);
}

/// 2^x for x <= 0: 2^-100 (nothing, but no product with it is subnormal) for anything below that, NaN for
/// NaN, and exactly 1 for 0.
HWY_INLINE Floats exp2_negative(Floats x) {
  return exp2_in_range(F(), hn::Max(hn::Set(F(), -100.0f), x));  // this order keeps NaN on x86
}

HWY_INLINE void prefetch(const void* from, std::ptrdiff_t ahead) {
  __builtin_prefetch(static_cast<const char*>(from) + ahead, 0, 2);
}

/// Makes the compiler load through `p` again. Broadcasts are cheap to load and dear to keep: with them, 3
/// rows times 4 vectors need 17 registers of the 16, and a sum that lives in memory doubles the time of the
/// loop.
HWY_INLINE void forget(const float*& p) {
  __asm__("" : "+r"(p));
}

/// scores[r][t] = q[r] . key[t] for 2 * P * lanes tokens of a panel, those of words [word, word + P * lanes).
/// keys: [head_dim, panel_tokens]; q: [head_dim, R]; scores: [R, page_tokens], at the panel's first token.
template <std::int32_t R, std::int32_t P, class T>
HWY_INLINE void score(const T* keys, std::int32_t word, const float* q, std::int32_t head_dim, float* scores,
                      std::ptrdiff_t ahead) {
  const F f;
  Floats sums[R][2 * P];
  for (std::int32_t r = 0; r < R; ++r) {
    for (std::int32_t p = 0; p < 2 * P; ++p) sums[r][p] = hn::Zero(f);
  }
  for (std::int32_t i = 0; i < head_dim; ++i, keys += panel_tokens, q += R) {
    prefetch(keys, ahead);
    for (std::int32_t p = 0; p < P; ++p) {
      const Pair key = load_keys(keys, word + p * lanes);
      for (std::int32_t r = 0; r < R; ++r) {
        const auto query = hn::Set(f, q[r]);
        sums[r][2 * p] = hn::MulAdd(query, key.lo, sums[r][2 * p]);
        sums[r][2 * p + 1] = hn::MulAdd(query, key.hi, sums[r][2 * p + 1]);
      }
      forget(q);
    }
  }
  for (std::int32_t r = 0; r < R; ++r) {
    for (std::int32_t p = 0; p < P; ++p) {
      float* to = scores + r * page_tokens + word + p * lanes;
      hn::StoreU(sums[r][2 * p], f, to);
      hn::StoreU(sums[r][2 * p + 1], f, to + panel_words);
    }
  }
}

/// One row's softmax step over a page: scores become weights 2^(score - highest) for the first `valid`
/// tokens, and the row's highest score and sum of weights move on.  @return the factor that old sums must be
/// multiplied with
HWY_INLINE float softmax_step(float* scores, std::int32_t valid, float& highest, float& sum) {
  const F f;
  const std::int32_t whole = valid / lanes * lanes;
  const auto tail = hn::FirstN(f, static_cast<std::size_t>(valid - whole));
  auto top = hn::Set(f, highest);
  for (std::int32_t t = 0; t < whole; t += lanes) top = hn::Max(top, hn::LoadU(f, scores + t));
  if (whole < valid) top = hn::Max(top, hn::IfThenElse(tail, hn::LoadU(f, scores + whole), top));
  top = hn::MaxOfLanes(f, top);

  const auto factor = exp2_negative(hn::Sub(hn::Set(f, highest), top));
  auto total = hn::Zero(f);
  for (std::int32_t t = 0; t < whole; t += lanes) {
    const auto weight = exp2_negative(hn::Sub(hn::LoadU(f, scores + t), top));
    hn::StoreU(weight, f, scores + t);
    total = hn::Add(total, weight);
  }
  if (whole < valid) {  // lanes past the end hold anything, NaN included
    const auto weight = hn::IfThenElseZero(tail, exp2_negative(hn::Sub(hn::LoadU(f, scores + whole), top)));
    hn::StoreU(weight, f, scores + whole);
    total = hn::Add(total, weight);
  }
  highest = hn::GetLane(top);
  const float old = hn::GetLane(factor);
  sum = sum * old + hn::GetLane(hn::SumOfLanes(f, total));
  return old;
}

/// sums[r] = sums[r] * factors[r] + weights[r][first .. last) . values, for 2 * P * lanes dims.
/// values: [page_tokens, head_dim], weights: [R, page_tokens], sums: [R, stride], each at the first of the
/// dims.
template <std::int32_t R, std::int32_t P, class T>
HWY_INLINE void weigh(const T* values, std::int32_t head_dim, std::int32_t first, std::int32_t last,
                      const float* weights, const float* factors, float* sums, std::int32_t stride,
                      std::ptrdiff_t ahead) {
  const F f;
  Floats total[R][2 * P];
  for (std::int32_t r = 0; r < R; ++r) {
    for (std::int32_t p = 0; p < 2 * P; ++p) {
      total[r][p] = hn::Mul(hn::Set(f, factors[r]), hn::LoadU(f, sums + r * stride + p * lanes));
    }
  }
  values += first * head_dim;
  for (std::int32_t t = first; t < last; ++t, values += head_dim) {
    prefetch(values, ahead);
    for (std::int32_t p = 0; p < P; ++p) {
      const Pair value = load_values(values + 2 * p * lanes);
      for (std::int32_t r = 0; r < R; ++r) {
        const auto weight = hn::Set(f, weights[r * page_tokens + t]);
        total[r][2 * p] = hn::MulAdd(weight, value.lo, total[r][2 * p]);
        total[r][2 * p + 1] = hn::MulAdd(weight, value.hi, total[r][2 * p + 1]);
      }
      forget(weights);
    }
  }
  for (std::int32_t r = 0; r < R; ++r) {
    for (std::int32_t p = 0; p < 2 * P; ++p) hn::StoreU(total[r][p], f, sums + r * stride + p * lanes);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_ATTENTION_TILE_INL_H_
