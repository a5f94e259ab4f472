// The kernels of the latent codec, compiled once for each instruction set and chosen at run time by Highway.
// SVE's vectors cannot be array elements; its machines have NEON.
#include "kernels/cpu/latent/kernels.h"

#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/latent/simd.cpp"
// clang-format off
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>
// clang-format on

#include "kernels/cpu/latent/basis-inl.h"
#include "kernels/cpu/latent/product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

void project_block(const Projection& work) {
  constexpr std::int64_t stride = tiles_at_once * tile_channels + row_padding;
  constexpr std::int64_t unit_y = block_components * unit_tokens;
  const std::int64_t unit_z = work.basis.n_parts * tile_channels * unit_tokens;
  for (std::int64_t i = 0; i < work.n_units * unit_y; ++i) work.y[i] = 0.0f;
  for (std::int64_t part = 0; part < work.basis.n_parts; part += tiles_at_once) {
    const std::int64_t n_parts = HWY_MIN(tiles_at_once, work.basis.n_parts - part);
    for (std::int64_t i = 0; i < n_parts; ++i) {
      expand_tile(work.basis, work.block, part + i, 0, tile_channels, work.expanded + i * tile_channels,
                  stride);
    }
    const float* z = work.z + part * tile_channels * unit_tokens;
    for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
      multiply({work.expanded, stride, 1}, block_components, z + unit * unit_z, n_parts * tile_channels,
               work.y + unit * unit_y);
    }
  }
}

void reconstruct_channels(const Reconstruction& work) {
  constexpr std::int64_t stride = tile_channels + row_padding;
  constexpr std::int64_t block_y = block_components * unit_tokens;
  const auto n_blocks = static_cast<std::int64_t>(work.blocks.size());
  const std::int64_t part = work.first_channel / tile_channels, column = work.first_channel % tile_channels;
  for (std::int64_t first = 0; first < n_blocks; first += tiles_at_once) {
    const std::int64_t n = HWY_MIN(tiles_at_once, n_blocks - first);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t block =
          work.blocks[static_cast<std::size_t>(first + i)].first_component / block_components;
      expand_tile(work.basis, block, part, column, work.n_channels,
                  work.expanded + i * block_components * stride, stride);
    }
    for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
      multiply({work.expanded, 1, stride}, work.n_channels, work.y + (unit * n_blocks + first) * block_y,
               n * block_components, work.z + unit * work.z_stride);
    }
  }
}

/// Codes of 16 values of one component, of unit variance.  codes: [16]
HWY_INLINE void nearest_codes(const float* y, float deviation, const Thresholds& thresholds,
                              std::uint8_t* codes) {
  const F f;
  const hn::Rebind<std::int32_t, F> words;
  const hn::Rebind<std::uint8_t, F> bytes;
  for (int v = 0; v < vectors; ++v) {
    const Floats value = hn::Div(hn::Load(f, y + v * lanes), hn::Set(f, deviation));
    Floats code = hn::Zero(f);
    for (int i = 0; i < thresholds.count; ++i) {
      const auto above = hn::Gt(value, hn::Set(f, thresholds.at[i]));
      code = hn::Add(code, hn::IfThenElseZero(above, hn::Set(f, 1.0f)));
    }
    hn::StoreU(hn::DemoteTo(bytes, hn::ConvertTo(words, code)), bytes, codes + v * lanes);
  }
}

/// The same for the 256 uniform levels.
HWY_INLINE void uniform_codes(const float* y, float deviation, std::uint8_t* codes) {
  const F f;
  const hn::Rebind<std::int32_t, F> words;
  const hn::Rebind<std::uint8_t, F> bytes;
  for (int v = 0; v < vectors; ++v) {
    const Floats value = hn::Div(hn::Load(f, y + v * lanes), hn::Set(f, deviation));
    // Level q is (q - 127.5) · 11/255; rounding up what lies half a step below sends ties down.
    const Floats place = hn::MulAdd(value, hn::Set(f, 255.0f / 11.0f), hn::Set(f, 127.0f));
    const Floats code = hn::Min(hn::Max(hn::Ceil(place), hn::Zero(f)), hn::Set(f, 255.0f));
    hn::StoreU(hn::DemoteTo(bytes, hn::ConvertTo(words, code)), bytes, codes + v * lanes);
  }
}

void quantise(const float* y, const float* deviation, std::int32_t bits, const Thresholds& thresholds,
              std::byte* packed) {
  std::uint8_t codes[unit_tokens];
  for (std::int64_t i = 0; i < block_components; ++i, y += unit_tokens, packed += 2 * bits) {
    if (bits == 8) {
      uniform_codes(y, deviation[i], codes);
    } else {
      nearest_codes(y, deviation[i], thresholds, codes);
    }
    pack_codes(codes, bits, packed);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cga::cpu {
namespace {

HWY_EXPORT(project_block);
HWY_EXPORT(reconstruct_channels);
HWY_EXPORT(quantise);

}  // namespace

void project(const Projection& work) {
  HWY_DYNAMIC_DISPATCH(project_block)(work);
}

void reconstruct(const Reconstruction& work) {
  HWY_DYNAMIC_DISPATCH(reconstruct_channels)(work);
}

void quantise_block(const float* y, const float* deviation, std::int32_t bits, const Thresholds& thresholds,
                    std::byte* packed) {
  HWY_DYNAMIC_DISPATCH(quantise)(y, deviation, bits, thresholds, packed);
}

}  // namespace cga::cpu
#endif  // HWY_ONCE
