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

#include "kernels/cpu/latent/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Both write whole vectors: up to 15 values more than asked for, which the rows' padding takes, and which are
// read from the next row, or from the slack behind the last tile.
using Row = hn::CappedTag<float, row_padding>;

inline void expand_halves(const std::uint16_t* from, std::int64_t n, float* to) {
  const Row f;
  const hn::Rebind<hwy::float16_t, Row> halves;
  const auto step = static_cast<std::int64_t>(hn::Lanes(f));
  for (std::int64_t i = 0; i < n; i += step) {
    const auto value = hn::LoadU(halves, reinterpret_cast<const hwy::float16_t*>(from + i));
    hn::StoreU(hn::PromoteTo(f, value), f, to + i);
  }
}

inline void expand_codes(const std::int8_t* from, float scale, std::int64_t n, float* to) {
  const Row f;
  const hn::Rebind<std::int8_t, Row> bytes;
  const hn::Rebind<std::int32_t, Row> words;
  const auto factor = hn::Set(f, scale);
  const auto step = static_cast<std::int64_t>(hn::Lanes(f));
  for (std::int64_t i = 0; i < n; i += step) {
    const auto codes = hn::ConvertTo(f, hn::PromoteTo(words, hn::LoadU(bytes, from + i)));
    hn::StoreU(hn::Mul(factor, codes), f, to + i);
  }
}

/// Channels [first, first + n) of a tile.  to: 64 rows, `stride` floats apart
inline void expand_tile(const BasisTiles& basis, std::int64_t block, std::int64_t part, std::int64_t first,
                        std::int64_t n, float* to, std::int64_t stride) {
  const std::byte* tile = basis.tile(block, part);
  if (basis.is_wide(block)) {
    const auto* halves = reinterpret_cast<const std::uint16_t*>(tile) + first;
    for (std::int64_t i = 0; i < block_components; ++i) {
      expand_halves(halves + i * tile_channels, n, to + i * stride);
    }
    return;
  }
  const auto* scales = reinterpret_cast<const float*>(tile);
  const auto* codes = reinterpret_cast<const std::int8_t*>(tile + scale_bytes) + first;
  for (std::int64_t i = 0; i < block_components; ++i) {
    expand_codes(codes + i * tile_channels, scales[i], n, to + i * stride);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_LATENT_BASIS_INL_H_
