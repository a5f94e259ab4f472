// A block of query rows over up to four residents, read where they are. Codes are widened to floats; a key's
// scale multiplies the token's score, a value's scale its weight. Included by attend.cpp only, through
// foreach_target.h.
#if defined(CGA_ATTENTION_RESIDENT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_ATTENTION_RESIDENT_INL_H_
#undef CGA_ATTENTION_RESIDENT_INL_H_
#else
#define CGA_ATTENTION_RESIDENT_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/attention/resident.h"
#include "kernels/cpu/attention/tile-inl.h"
#include "kernels/cpu/attention/work-inl.h"
#include "tensor/latent_layout.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

/// What is at a place of four, and at the next one, which is fetched meanwhile.
struct ResidentHeads {
  std::int32_t n_units = 0;
  ResidentHead unit[page_units];
  ResidentHead next[page_units];  // the same as unit, if there is nothing to fetch
};

/// The units of a choice that are at a place of four, in a list for each.
inline void find_residents(const TileWork& work, std::span<const std::int32_t> units, ResidentHead* heads) {
  for (std::size_t i = 0; i < std::size_t{page_units};
       ++i) {  // those that are not there are never read past a score
    const std::int32_t id = resident_unit(units[HWY_MIN(i, units.size() - 1)]);
    heads[i] = resident_head(work.params.residents, id, work.tile.kv_head);
  }
}

HWY_INLINE Floats widen_codes(const std::int8_t* from) {
  const hn::Rebind<std::int8_t, F> bytes;
  return hn::ConvertTo(F(), hn::PromoteTo(hn::RebindToSigned<F>(), hn::LoadU(bytes, from)));
}

HWY_INLINE Floats widen_scales(const std::uint16_t* from) {
  const hn::Rebind<std::uint16_t, F> halves;
  return hn::BitCast(F(), hn::ShiftLeft<16>(hn::PromoteTo(U(), hn::LoadU(halves, from))));
}

/// scores[r][16 * u + t] = q[r] . key[t] of units u and u + 1, by their codes.  scores: at unit u
template <std::int32_t R, std::int32_t P>
HWY_INLINE void score_residents(const ResidentHeads& heads, std::int32_t u, std::int32_t word, const float* q,
                                std::int32_t head_dim, float* scores) {
  const F f;
  Floats sums[R][2 * P];
  for (std::int32_t r = 0; r < R; ++r) {
    for (std::int32_t p = 0; p < 2 * P; ++p) sums[r][p] = hn::Zero(f);
  }
  const std::int8_t* a = heads.unit[u].keys + word;
  const std::int8_t* b = heads.unit[u + 1].keys + word;
  const std::ptrdiff_t ahead_a = heads.next[u].keys - heads.unit[u].keys;
  const std::ptrdiff_t ahead_b = heads.next[u + 1].keys - heads.unit[u + 1].keys;
  for (std::int32_t i = 0; i < head_dim; ++i, a += unit_tokens, b += unit_tokens, q += R) {
    if (i % 4 == 0) {  // a cache line is four rows
      prefetch(a, ahead_a);
      prefetch(b, ahead_b);
    }
    for (std::int32_t p = 0; p < P; ++p) {
      const Floats lo = widen_codes(a + p * lanes), hi = widen_codes(b + p * lanes);
      for (std::int32_t r = 0; r < R; ++r) {
        const auto query = hn::Set(f, q[r]);
        sums[r][2 * p] = hn::MulAdd(query, lo, sums[r][2 * p]);
        sums[r][2 * p + 1] = hn::MulAdd(query, hi, sums[r][2 * p + 1]);
      }
      forget(q);
    }
  }
  for (std::int32_t p = 0; p < P; ++p) {
    const Floats lo = widen_scales(heads.unit[u].key_scales + word + p * lanes);
    const Floats hi = widen_scales(heads.unit[u + 1].key_scales + word + p * lanes);
    for (std::int32_t r = 0; r < R; ++r) {
      float* to = scores + r * page_tokens + word + p * lanes;
      hn::StoreU(hn::Mul(sums[r][2 * p], lo), f, to);
      hn::StoreU(hn::Mul(sums[r][2 * p + 1], hi), f, to + unit_tokens);
    }
  }
}

/// sums[r] = sums[r] * factors[r] + weights[r] . values of all units, for 2 * P * lanes dims from i on.
template <std::int32_t R, std::int32_t P>
HWY_INLINE void weigh_residents(const ResidentHeads& heads, std::int32_t i, std::int32_t head_dim,
                                const float* weights, const float* factors, float* sums,
                                std::int32_t stride) {
  const F f;
  Floats total[R][2 * P];
  std::int32_t lo_at[P], hi_at[P];
  for (std::int32_t p = 0; p < P; ++p) {
    const std::int32_t dim = i + 2 * p * lanes, first = dim / dim_block * dim_block;
    lo_at[p] = dim_place(dim, head_dim);
    hi_at[p] = lo_at[p] + block_dims(first, head_dim) / 2;
    for (std::int32_t r = 0; r < R; ++r) {
      const auto factor = hn::Set(f, factors[r]);
      const float* from = sums + r * stride + 2 * p * lanes;
      total[r][2 * p] = hn::Mul(factor, hn::LoadU(f, from));
      total[r][2 * p + 1] = hn::Mul(factor, hn::LoadU(f, from + lanes));
    }
  }
  for (std::int32_t u = 0; u < heads.n_units; ++u) {
    const std::int8_t* values = heads.unit[u].values;
    const std::ptrdiff_t ahead = heads.next[u].values - values;
    for (std::int32_t t = 0; t < unit_tokens; ++t, values += head_dim, ++weights) {
      prefetch(values + i, ahead);
      for (std::int32_t p = 0; p < P; ++p) {
        const Floats lo = widen_codes(values + lo_at[p]), hi = widen_codes(values + hi_at[p]);
        for (std::int32_t r = 0; r < R; ++r) {
          const auto weight = hn::Set(f, weights[r * page_tokens]);
          total[r][2 * p] = hn::MulAdd(weight, lo, total[r][2 * p]);
          total[r][2 * p + 1] = hn::MulAdd(weight, hi, total[r][2 * p + 1]);
        }
        forget(weights);
      }
    }
  }
  for (std::int32_t r = 0; r < R; ++r) {
    for (std::int32_t p = 0; p < 2 * P; ++p) hn::StoreU(total[r][p], f, sums + r * stride + p * lanes);
  }
}

/// One block of R rows over the units at one place, all of which every row may see.
/// @param q      [head_dim, R]
/// @param first  the block's first row in the tile
template <std::int32_t R>
HWY_NOINLINE void block_over(const TileWork& work, const Place& place, const ResidentHeads& heads,
                             const float* q, std::int32_t first, const SoftmaxState& state, std::ptrdiff_t) {
  constexpr std::int32_t PS = HWY_MIN(pairs_for(R), unit_tokens / lanes), P = pairs_for(R);
  HWY_ALIGN float weights[R * page_tokens];  // scores, then weights, then these times the values' scales
  HWY_ALIGN float factors[R];
  for (std::int32_t u = 0; u < heads.n_units; u += 2) {
    for (std::int32_t word = 0; word < unit_tokens; word += PS * lanes) {
      score_residents<R, PS>(heads, u, word, q, work.head_dim, weights + u * unit_tokens);
    }
  }
  for (std::int32_t r = 0; r < R; ++r) {
    factors[r] = softmax_step(weights + r * page_tokens, place.n_tokens, state.highest[first + r],
                              state.sum[first + r]);
  }
  for (std::int32_t u = 0; u < heads.n_units; ++u) {
    for (std::int32_t t = 0; t < unit_tokens; t += lanes) {
      const Floats scales = widen_scales(heads.unit[u].value_scales + t);
      for (std::int32_t r = 0; r < R; ++r) {
        float* at = weights + r * page_tokens + u * unit_tokens + t;
        hn::StoreU(hn::Mul(scales, hn::LoadU(F(), at)), F(), at);
      }
    }
  }
  float* sums = state.values + first * work.stride;
  constexpr std::int32_t step = 2 * P * lanes;
  std::int32_t i = 0;
  for (; i + step <= work.head_dim; i += step) {
    weigh_residents<R, P>(heads, i, work.head_dim, weights, factors, sums + i, work.stride);
  }
  for (; i < work.head_dim; i += 2 * lanes) {  // the last may read past a value, into what follows it
    weigh_residents<R, 1>(heads, i, work.head_dim, weights, factors, sums + i, work.stride);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_ATTENTION_RESIDENT_INL_H_
