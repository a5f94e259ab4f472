// Decoding in integers: pairs of components at once, int16 times int16. Codes become levels, levels times
// factors become y; panels of the basis become int16; and one is multiplied by the other.
// Per-target include guard, as Highway asks for.
#if defined(CGA_LATENT_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_LATENT_PAIRS_INL_H_
#undef CGA_LATENT_PAIRS_INL_H_
#else
#define CGA_LATENT_PAIRS_INL_H_
#endif

#include <hwy/cache_control.h>
#include <hwy/highway.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cpu/latent/kernels.h"
#include "kernels/cpu/latent/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR  // no pairs, no tables: plain loops

template <int bits>
void read_narrow(const std::byte* packed, const IntegerLevels& levels, std::int16_t* y) {
  for (std::int64_t i = 0; i < block_components; ++i, packed += 2 * bits) {
    std::uint8_t codes[unit_tokens];
    unpack_codes<bits>(packed, codes);
    std::int16_t* to = y + i / 2 * 2 * unit_tokens + i % 2;
    for (int t = 0; t < unit_tokens; ++t) to[2 * t] = levels.at[codes[t]];
  }
}

inline void scale_levels(const std::int16_t* levels, const std::int16_t* factors, std::int16_t* y,
                         const std::int16_t*) {
  for (std::int64_t i = 0; i < block_values; ++i) {
    const int product = levels[i] * factors[i / (2 * unit_tokens) * 2 + i % 2];
    y[i] = static_cast<std::int16_t>((product + (1 << 14)) >> 15);
  }
}

inline void expand_panel(const std::int8_t* codes, std::int16_t* to) {
  for (std::int64_t i = 0; i < panel_bytes; ++i) to[i] = codes[i];
}

inline constexpr int panels_at_once = 1;
inline constexpr bool widens_as_used = true;

template <int P, class Code>
void multiply_pairs(const std::int16_t* a, const Code* b, std::int64_t n_pairs, float step, float* c,
                    std::int64_t) {
  static_assert(P == 1);
  for (std::int64_t t = 0; t < unit_tokens; ++t) {
    for (std::int64_t i = 0; i < panel_channels; ++i) {
      std::int32_t sum = 0;
      for (std::int64_t k = 0; k < 2 * n_pairs; ++k) {
        sum += a[(k / 2 * unit_tokens + t) * 2 + k % 2] * b[(k / 2 * panel_channels + i) * 2 + k % 2];
      }
      c[t * panel_channels + i] += step * static_cast<float>(sum);
    }
  }
}

#else

/// Where the codes of a pair of components lie: their bytes, 4 · bits of them, hold words of 16 bits, the
/// first half of them the first component's.
template <int bits>
struct CodePlaces {
  alignas(64) std::uint8_t byte[4 * unit_tokens];    // of token t and component j: both bytes of its word
  alignas(64) std::uint16_t shift[2 * unit_tokens];  // brings its code to the top of the word

  constexpr CodePlaces() : byte(), shift() {
    for (int t = 0; t < unit_tokens; ++t) {
      for (int j = 0; j < 2; ++j) {
        const int lane = 2 * t + j, word = j * bits + t * bits / 16;
        byte[2 * lane] = static_cast<std::uint8_t>(2 * word);
        byte[2 * lane + 1] = static_cast<std::uint8_t>(2 * word + 1);
        shift[lane] = static_cast<std::uint16_t>(1u << (16 - bits - t * bits % 16));
      }
    }
  }
};

/// The bytes of a pair of components in every 16 bytes.
template <int bits, class D>
HWY_INLINE hn::Vec<D> load_codes(D d, const std::byte* packed) {
  if constexpr (bits == 4) {
    return hn::LoadDup128(d, reinterpret_cast<const std::uint8_t*>(packed));
  } else {
    using Word = std::conditional_t<bits == 1, std::uint32_t, std::uint64_t>;
    Word word;
    std::memcpy(&word, packed, sizeof word);
    return hn::BitCast(d, hn::Set(hn::Repartition<Word, D>(), word));
  }
}

template <int bits>
void read_narrow(const std::byte* packed, const IntegerLevels& levels, std::int16_t* y) {
  static constexpr CodePlaces<bits> places;
  const hn::CappedTag<std::uint16_t, 2 * unit_tokens> d;
  const hn::Repartition<std::uint8_t, decltype(d)> bytes;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
  alignas(16) std::uint8_t low[16] = {}, high[16] = {};
  for (int code = 0; code < 1 << bits; ++code) {
    low[code] = static_cast<std::uint8_t>(levels.at[code] & 255);
    high[code] = static_cast<std::uint8_t>(levels.at[code] >> 8 & 255);
  }
  const auto low_table = hn::LoadDup128(bytes, low), high_table = hn::LoadDup128(bytes, high);
  // An index of 128 and more looks up zero.
  const auto not_high = hn::Set(d, 0x8000), not_low = hn::Set(d, 0x0080);
  for (std::int64_t pair = 0; pair < block_pairs; ++pair, packed += 4 * bits, y += 2 * unit_tokens) {
    const auto codes = load_codes<bits>(bytes, packed);
    for (std::int64_t i = 0; i < 2 * unit_tokens; i += step) {
      const auto word = hn::BitCast(d, hn::TableLookupBytes(codes, hn::Load(bytes, places.byte + 2 * i)));
      const auto code = hn::ShiftRight<16 - bits>(hn::Mul(word, hn::Load(d, places.shift + i)));
      const auto at_low = hn::BitCast(bytes, hn::Or(code, not_high));
      const auto at_high = hn::BitCast(bytes, hn::Or(hn::ShiftLeft<8>(code), not_low));
      const auto level =
          hn::Or(hn::TableLookupBytesOr0(low_table, at_low), hn::TableLookupBytesOr0(high_table, at_high));
      hn::Store(hn::BitCast(d, level), d, reinterpret_cast<std::uint16_t*>(y) + i);
    }
  }
}

/// y = levels times factors, pair by pair of components.  levels, y: [32, 16, 2]; factors: [64]
/// @param next  levels that are read some time after these: fetched meanwhile
HWY_INLINE void scale_levels(const std::int16_t* levels, const std::int16_t* factors, std::int16_t* y,
                             const std::int16_t* next) {
  const hn::CappedTag<std::int16_t, 2 * unit_tokens> d;
  const hn::RepartitionToWide<decltype(d)> words;
  constexpr int step = static_cast<int>(hn::MaxLanes(d));
  for (std::int64_t pair = 0; pair < block_pairs; ++pair) {
    const std::int64_t at = pair * 2 * unit_tokens;
    hwy::Prefetch(next + at);
    std::int32_t both;
    std::memcpy(&both, factors + 2 * pair, sizeof both);
    const auto factor = hn::BitCast(d, hn::Set(words, both));
#pragma GCC unroll 4
    for (int i = 0; i < 2 * unit_tokens; i += step) {
      hn::Store(hn::MulFixedPoint15(hn::Load(d, levels + at + i), factor), d, y + at + i);
    }
  }
}

/// One panel of a tile.  codes, to: [32, 16, 2]
inline void expand_panel(const std::int8_t* codes, std::int16_t* to) {
  const hn::CappedTag<std::int16_t, 2 * panel_channels> d;
  const hn::Rebind<std::int8_t, decltype(d)> bytes;
  const auto step = static_cast<std::int64_t>(hn::Lanes(d));
#pragma GCC unroll 4
  for (std::int64_t i = 0; i < panel_bytes; i += step) {
    hn::Store(hn::PromoteTo(d, hn::LoadU(bytes, codes + i)), d, to + i);
  }
}

using Pairs = hn::Repartition<std::int16_t, F>;
using Words = hn::Repartition<std::int32_t, F>;

/// sum + the products of 16-bit numbers. Which lanes of sum and other they go to is the target's choice,
/// until RearrangeToOddPlusEven puts those of neighbours together; x86 adds neighbours and leaves `other`
/// alone.
HWY_INLINE hn::Vec<Words> add_products(hn::Vec<Words> sum, hn::Vec<Pairs> a, hn::Vec<Pairs> b,
                                       hn::Vec<Words>& other) {
#if HWY_TARGET == HWY_AVX3_DL
  // Highway 1.0.3 does not use it.
  asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
#elif HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  // Written as instructions because GCC would rather compute many products first, and keep them in memory
  // until they are added.
  hn::Vec<Words> products = hn::ReorderWidenMulAccumulate(Words(), a, b, hn::Zero(Words()), other);
  asm("vpaddd %1, %0, %0" : "+v"(sum.raw) : "v"(products.raw));
#else
  sum = hn::ReorderWidenMulAccumulate(Words(), a, b, sum, other);
#endif
  return sum;
}

/// Panels whose sums fit the registers for a few tokens. Where one vector holds a panel's channels, two
/// panels make two uses of each broadcast: AVX-512 processors load no faster than they multiply.
inline constexpr int panels_at_once = vectors == 1 ? 2 : 1;

/// Whether panels are widened each time they are used, rather than once for all units: where the multiplier
/// is the limit, widening costs nothing beside it, and stores of 64 bytes do.
inline constexpr bool widens_as_used = vectors == 1;

HWY_INLINE hn::Vec<Pairs> load_pairs(const std::int16_t* from) {
  return hn::Load(Pairs(), from);
}
HWY_INLINE hn::Vec<Pairs> load_pairs(const std::int8_t* from) {
  return hn::PromoteTo(Pairs(), hn::LoadU(hn::Rebind<std::int8_t, Pairs>(), from));
}

/// c[p, r] += step · Σ_i a[i, r] · b[p, i] for some components of a block, in integers.
/// @param a  [n_pairs, 16, 2], i16: pairs of components for 16 tokens, from the first of the R on
/// @param b  [P] of [n_pairs, 16, 2], i16 or i8: pairs of components for the 16 channels of a panel
/// @param c  [P] of [R, 16], c_stride floats apart
template <int R, int P, class Code>
HWY_INLINE void multiply_pair_rows(const std::int16_t* a, const Code* b, std::int64_t n_pairs, float step,
                                   float* c, std::int64_t c_stride) {
  constexpr int n_columns = P * vectors, depth = 4;
  const F f;
  const Pairs pairs;
  const Words words;
  hn::Vec<Words> sum[R][n_columns], other[R][n_columns];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < n_columns; ++v) sum[r][v] = other[r][v] = hn::Zero(words);
  }
  static_assert(segment_pairs % depth == 0);
  for (std::int64_t k = 0; k < n_pairs; k += depth) {
#pragma GCC unroll 4
    for (int i = 0; i < depth; ++i, a += 2 * unit_tokens, b += 2 * panel_channels) {
      hn::Vec<Pairs> column[n_columns];
      for (int v = 0; v < n_columns; ++v) {
        column[v] = load_pairs(b + v / vectors * panel_bytes + v % vectors * 2 * lanes);
      }
      for (int r = 0; r < R; ++r) {
        std::int32_t pair;
        std::memcpy(&pair, a + 2 * r, sizeof pair);
        const auto factor = hn::BitCast(pairs, hn::Set(words, pair));
        for (int v = 0; v < n_columns; ++v) {
          sum[r][v] = add_products(sum[r][v], factor, column[v], other[r][v]);
        }
      }
    }
  }
  const auto worth = hn::Set(f, step);
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < n_columns; ++v) {
      float* at = c + v / vectors * c_stride + r * panel_channels + v % vectors * lanes;
      const auto whole = hn::RearrangeToOddPlusEven(sum[r][v], other[r][v]);
      hn::Store(hn::MulAdd(worth, hn::ConvertTo(f, whole), hn::Load(f, at)), f, at);
    }
  }
}

/// The 16 tokens of a unit by the channels of P panels.  c: [P] of [16, 16], c_stride floats apart
template <int P, class Code>
HWY_NOINLINE void multiply_pairs(const std::int16_t* a, const Code* b, std::int64_t n_pairs, float step,
                                 float* c, std::int64_t c_stride) {
  constexpr int rows = lanes >= 16 ? 8 : lanes == 8 ? 4 : 2;
  for (int r = 0; r < unit_tokens; r += rows) {
    multiply_pair_rows<rows, P>(a + 2 * r, b, n_pairs, step, c + r * panel_channels, c_stride);
  }
}

#endif

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_LATENT_PAIRS_INL_H_
