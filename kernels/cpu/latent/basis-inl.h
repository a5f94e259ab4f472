// Tiles of the basis as f32: 16-bit rows widened, int8 rows times their scale.
// Per-target include guard, as Highway asks for.
#if defined(CGA_LATENT_BASIS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_LATENT_BASIS_INL_H_
#undef CGA_LATENT_BASIS_INL_H_
#else
#define CGA_LATENT_BASIS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "base/half.h"
#include "kernels/cpu/latent/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Halves are read and written in whole vectors: up to 15 values more than asked for, which the rows' padding
// takes, and which are read from the next row, or from the slack behind the last tile.
using Row = hn::CappedTag<float, row_padding>;

/// Channels [first, first + n) of a wide tile.  to: 64 rows, `stride` floats apart
inline void expand_halves(const std::byte* tile, std::int64_t first, std::int64_t n, float* to,
                          std::int64_t stride) {
  const Row f;
  const hn::Rebind<hwy::float16_t, Row> halves;
  const auto step = static_cast<std::int64_t>(hn::Lanes(f));
  const auto* from = reinterpret_cast<const hwy::float16_t*>(tile) + first;
  for (std::int64_t row = 0; row < block_components; ++row, from += tile_channels, to += stride) {
    for (std::int64_t i = 0; i < n; i += step) {
      hn::StoreU(hn::PromoteTo(f, hn::LoadU(halves, from + i)), f, to + i);
    }
  }
}

/// All channels of a tile of codes.  to: 64 rows, `stride` floats apart
inline void expand_codes(const std::byte* tile, float* to, std::int64_t stride) {
  const Row f;
  const hn::Rebind<std::int16_t, Row> pairs;
  const hn::Rebind<std::int32_t, Row> words;
  const auto step = static_cast<std::int64_t>(hn::Lanes(f));
  const auto* halves = reinterpret_cast<const std::uint16_t*>(tile);
  float scales[block_components];
  for (std::int64_t i = 0; i < block_components; ++i) scales[i] = f16_to_f32(halves[i]);
  const auto* codes = reinterpret_cast<const std::int16_t*>(tile + scale_bytes + factor_bytes);
  for (std::int64_t panel = 0; panel < tile_channels; panel += panel_channels) {
    float* even_row = to + panel;
    for (std::int64_t i = 0; i < block_components; i += 2, even_row += 2 * stride, codes += panel_channels) {
      const auto even_scale = hn::Set(f, scales[i]), odd_scale = hn::Set(f, scales[i + 1]);
      for (std::int64_t c = 0; c < panel_channels; c += step) {
        const auto both = hn::LoadU(pairs, codes + c);
        const auto even = hn::PromoteTo(words, hn::ShiftRight<8>(hn::ShiftLeft<8>(both)));
        const auto odd = hn::PromoteTo(words, hn::ShiftRight<8>(both));
        hn::StoreU(hn::Mul(even_scale, hn::ConvertTo(f, even)), f, even_row + c);
        hn::StoreU(hn::Mul(odd_scale, hn::ConvertTo(f, odd)), f, even_row + stride + c);
      }
    }
  }
}

/// A tile of either kind.
inline void expand_tile(const BasisTiles& basis, std::int64_t block, std::int64_t part, float* to,
                        std::int64_t stride) {
  const std::byte* tile = basis.tile(block, part);
  if (basis.is_wide(block)) return expand_halves(tile, 0, tile_channels, to, stride);
  expand_codes(tile, to, stride);
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_LATENT_BASIS_INL_H_
