// Decoding in bytes, where the processor multiplies four at once (AVX-512 VNNI): twice as many products an
// instruction as pairs-inl.h has. Levels times factors are rounded to int8 rather than int16.
// Per-target include guard, as Highway asks for.
#if defined(CGA_LATENT_QUADS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_LATENT_QUADS_INL_H_
#undef CGA_LATENT_QUADS_INL_H_
#else
#define CGA_LATENT_QUADS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernels/cpu/latent/kernels.h"
#include "kernels/cpu/latent/pairs-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX3_DL
inline constexpr bool multiplies_bytes = true;

using Bytes = hn::Repartition<std::uint8_t, F>;

/// sum + the products of four unsigned bytes and four signed ones, in each lane.
HWY_INLINE hn::Vec<Words> add_byte_products(hn::Vec<Words> sum, hn::Vec<Bytes> a, hn::Vec<Words> b) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
  return sum;
}

/// The products take one factor unsigned: that of the basis, 128 more than it is. So sums begin at -128 times
/// the sum of the other.
inline constexpr std::int32_t basis_offset = 128;

/// y = levels times factors as bytes, four components at a time.
/// @param levels   [32, 16, 2], i16  @param factors  [64]
/// @param y        [16, 16, 4], i8: fours of components, token by token
/// @param offsets  [n_segments, 16], i32: -128 · Σ y over a segment, token by token
/// @param next     levels that are read some time after these: fetched meanwhile
HWY_INLINE void scale_to_bytes(const std::int16_t* levels, const std::int16_t* factors,
                               std::int64_t n_segments, std::int8_t* y, std::int32_t* offsets,
                               const std::int16_t* next) {
  const Pairs pairs;
  const Words words;
  const Bytes bytes;
  // Of each lane of 32 bits the low bytes of both numbers, first or last.
  alignas(16) static constexpr std::uint8_t first[16] = {0, 2,  128, 128, 4,  6,  128, 128,
                                                         8, 10, 128, 128, 12, 14, 128, 128};
  alignas(16) static constexpr std::uint8_t last[16] = {128, 128, 0, 2,  128, 128, 4,  6,
                                                        128, 128, 8, 10, 128, 128, 12, 14};
  const auto to_first = hn::LoadDup128(bytes, first), to_last = hn::LoadDup128(bytes, last);
  const auto to_byte = hn::Set(pairs, 127);
  const auto each = hn::Set(bytes, basis_offset);
  const auto scaled = [&](std::int64_t pair) {
    hwy::Prefetch(next + pair * 2 * unit_tokens);
    std::int32_t both;
    std::memcpy(&both, factors + 2 * pair, sizeof both);
    const auto product = hn::MulFixedPoint15(hn::Load(pairs, levels + pair * 2 * unit_tokens),
                                             hn::BitCast(pairs, hn::Set(words, both)));
    return hn::BitCast(bytes, hn::MulFixedPoint15(product, to_byte));
  };
  const std::int64_t n_pairs = block_pairs / n_segments;
  for (std::int64_t segment = 0; segment < n_segments; ++segment) {
    auto sum = hn::Zero(words);
    for (std::int64_t pair = segment * n_pairs; pair < (segment + 1) * n_pairs; pair += 2) {
      const auto four = hn::BitCast(words, hn::Or(hn::TableLookupBytesOr0(scaled(pair), to_first),
                                                  hn::TableLookupBytesOr0(scaled(pair + 1), to_last)));
      hn::Store(four, words, reinterpret_cast<std::int32_t*>(y) + pair / 2 * unit_tokens);
      sum = add_byte_products(sum, each, four);
    }
    hn::Store(hn::Neg(sum), words, offsets + segment * unit_tokens);
  }
}

/// c[p, r] += step · Σ_i y[i, r] · b[p, i] for some components of a block, in integers, for R tokens.
/// @param y        [n_fours, 16, 4], i8, from the first of the R tokens on
/// @param b        [P] of [2 · n_fours, 16, 2], i8: pairs of components for the 16 channels of a panel
/// @param offsets  [R], i32
/// @param c        [P] of [R, 16], c_stride floats apart
template <int R, int P>
HWY_INLINE void multiply_byte_rows(const std::int8_t* y, const std::int8_t* b, const std::int32_t* offsets,
                                   std::int64_t n_fours, float step, float* c, std::int64_t c_stride) {
  const F f;
  const Words words;
  const Bytes bytes;
  const hn::Repartition<std::uint16_t, F> pairs;
  // Two pairs of every channel lie 32 bytes apart; a four has them in one lane.
  alignas(64) static constexpr std::uint16_t together[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                             21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                             11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const auto fours = hn::Load(pairs, together);
  const auto sign = hn::Set(bytes, basis_offset);
  hn::Vec<Words> sum[R][P];
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) sum[r][p] = hn::Set(words, offsets[r]);
  }
  for (std::int64_t k = 0; k < n_fours; ++k, y += 4 * unit_tokens, b += 4 * panel_channels) {
    hn::Vec<Bytes> column[P];
    for (int p = 0; p < P; ++p) {
      const auto both = hn::BitCast(
          pairs, hn::Xor(sign, hn::LoadU(bytes, reinterpret_cast<const std::uint8_t*>(b + p * panel_bytes))));
      // Highway 1.0.3 looks up lanes of 32 bits only.
      column[p].raw = _mm512_permutexvar_epi16(fours.raw, both.raw);
    }
    for (int r = 0; r < R; ++r) {
      std::int32_t four;
      std::memcpy(&four, y + 4 * r, sizeof four);
      const auto factor = hn::Set(words, four);
      for (int p = 0; p < P; ++p) sum[r][p] = add_byte_products(sum[r][p], column[p], factor);
    }
  }
  const auto worth = hn::Set(f, step);
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      float* at = c + p * c_stride + r * panel_channels;
      hn::Store(hn::MulAdd(worth, hn::ConvertTo(f, sum[r][p]), hn::Load(f, at)), f, at);
    }
  }
}

/// The 16 tokens of a unit by the channels of P panels.  c: [P] of [16, 16], c_stride floats apart
template <int P>
HWY_NOINLINE void multiply_bytes(const std::int8_t* y, const std::int8_t* b, const std::int32_t* offsets,
                                 std::int64_t n_fours, float step, float* c, std::int64_t c_stride) {
  constexpr int rows = 8;
  for (int r = 0; r < unit_tokens; r += rows) {
    multiply_byte_rows<rows, P>(y + 4 * r, b, offsets + r, n_fours, step, c + r * panel_channels, c_stride);
  }
}

#else
inline constexpr bool multiplies_bytes = false;

// Named where they are not used.
void scale_to_bytes(const std::int16_t* levels, const std::int16_t* factors, std::int64_t n_segments,
                    std::int8_t* y, std::int32_t* offsets, const std::int16_t* next);
template <int P>
void multiply_bytes(const std::int8_t* y, const std::int8_t* b, const std::int32_t* offsets,
                    std::int64_t n_fours, float step, float* c, std::int64_t c_stride);
#endif

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_LATENT_QUADS_INL_H_
