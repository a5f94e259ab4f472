// The kernels of the latent codec, compiled once for each instruction set and chosen at run time by Highway.
// SVE's vectors cannot be array elements; its machines have NEON.
#include "kernels/cpu/latent/kernels.h"

#define HWY_WANT_AVX3_DL 1
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/latent/simd.cpp"
// clang-format off
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>
#include <hwy/cache_control.h>
// clang-format on

#include "kernels/cpu/latent/basis-inl.h"
#include "kernels/cpu/latent/pairs-inl.h"
#include "kernels/cpu/latent/product-inl.h"
#include "kernels/cpu/latent/quads-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

std::int64_t block_at(std::span<const LatentLayout::Block> blocks, std::int64_t i) {
  return blocks[static_cast<std::size_t>(i)].first_component / block_components;
}

void project_block(const Projection& work) {
  constexpr std::int64_t stride = tiles_at_once * tile_channels + row_padding;
  constexpr std::int64_t unit_y = block_components * unit_tokens;
  const std::int64_t unit_z = work.basis.n_parts * tile_channels * unit_tokens;
  for (std::int64_t i = 0; i < work.n_units * unit_y; ++i) work.y[i] = 0.0f;
  for (std::int64_t part = 0; part < work.basis.n_parts; part += tiles_at_once) {
    const std::int64_t n_parts = HWY_MIN(tiles_at_once, work.basis.n_parts - part);
    for (std::int64_t i = 0; i < n_parts; ++i) {
      expand_tile(work.basis, work.block, part + i, work.expanded + i * tile_channels, stride);
    }
    const float* z = work.z + part * tile_channels * unit_tokens;
    for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
      multiply({work.expanded, stride, 1}, block_components, z + unit * unit_z, n_parts * tile_channels,
               work.y + unit * unit_y);
    }
  }
}

void subtract_wide(const Subtraction& work) {
  constexpr std::int64_t stride = tile_channels + row_padding;
  const auto n_blocks = static_cast<std::int64_t>(work.blocks.size());
  for (std::int64_t first = 0; first < n_blocks; first += tiles_at_once) {
    const std::int64_t n = HWY_MIN(tiles_at_once, n_blocks - first);
    for (std::int64_t i = 0; i < n; ++i) {
      const std::byte* tile = work.basis.tile(block_at(work.blocks, first + i), work.part);
      expand_halves(tile, 0, tile_channels, work.expanded + i * block_components * stride, stride);
    }
    for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
      multiply({work.expanded, 1, stride}, tile_channels, work.y + (unit * n_blocks + first) * block_values,
               n * block_components, work.z + unit * work.z_stride);
    }
  }
}

/// z = Uᵀ y for the wide components, in f32.
void reconstruct_wide(const Reconstruction& work) {
  const auto n_blocks = static_cast<std::int64_t>(work.wide.size());
  float* expanded = work.scratch->wide;
  for (std::int64_t panel = 0; panel < work.n_panels; ++panel) {
    for (std::int64_t i = 0; i < work.n_units * panel_values; ++i) work.z(panel, 0)[i] = 0.0f;
    for (std::int64_t first = 0; first < n_blocks; first += tiles_at_once) {
      const std::int64_t n = HWY_MIN(tiles_at_once, n_blocks - first);
      for (std::int64_t i = 0; i < n; ++i) {
        const std::byte* tile = work.basis.tile(block_at(work.wide, first + i), work.part);
        expand_halves(tile, (work.first_panel + panel) * panel_channels, panel_channels,
                      expanded + i * block_components * panel_channels, panel_channels);
      }
      for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
        multiply({work.y + (unit * n_blocks + first) * block_values, 1, unit_tokens}, unit_tokens, expanded,
                 n * block_components, work.z(panel, unit));
      }
    }
  }
}

/// The first panel of one of the other blocks.  [n_panels, 32, 16, 2], i8
HWY_INLINE const std::int8_t* codes_of(const Reconstruction& work, std::int64_t i) {
  const std::byte* tile = work.basis.tile(block_at(work.others, i), work.part);
  return reinterpret_cast<const std::int8_t*>(tile + scale_bytes + factor_bytes) +
         work.first_panel * panel_bytes;
}

/// Tells the processor what is read next: it does not see through the step from block to block.
HWY_INLINE void fetch_panels(const std::int8_t* codes, std::int64_t n) {
  for (std::int64_t i = 0; i < n * panel_bytes; i += 64) hwy::Prefetch(codes + i);
}

/// P panels of one block times all units.
/// @param codes  [P, 32, 16, 2], i8  @param steps  [n_segments]
template <int P>
void add_panels(const Reconstruction& work, const std::int8_t* codes, const float* steps,
                std::int64_t n_segments, std::int64_t panel) {
  const std::int64_t stride = work.n_units * panel_values, n_pairs = block_pairs / n_segments;
  const auto for_segments = [&](const auto& multiply) {
    for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
      for (std::int64_t i = 0; i < n_segments; ++i) multiply(unit, i, work.z(panel, unit));
    }
  };
  const auto multiply_units = [&](const auto* from) {
    for_segments([&](std::int64_t unit, std::int64_t i, float* z) {
      const std::int16_t* y = work.scratch->y + unit * block_values + i * n_pairs * 2 * unit_tokens;
      multiply_pairs<P>(y, from + i * n_pairs * 2 * panel_channels, n_pairs, steps[i], z, stride);
    });
  };
  if constexpr (multiplies_bytes) {
    const auto* bytes = reinterpret_cast<const std::int8_t*>(work.scratch->y);
    for_segments([&](std::int64_t unit, std::int64_t i, float* z) {
      const std::int8_t* y = bytes + unit * block_values + i * n_pairs * 2 * unit_tokens;
      const std::int32_t* offsets = work.scratch->offsets + (unit * block_segments + i) * unit_tokens;
      multiply_bytes<P>(y, codes + i * n_pairs * 2 * panel_channels, offsets, n_pairs / 2, steps[i], z,
                        stride);
    });
  } else if constexpr (widens_as_used) {
    multiply_units(codes);
  } else {
    std::int16_t* panels = work.scratch->panels;
    for (int p = 0; p < P; ++p) expand_panel(codes + p * panel_bytes, panels + p * panel_bytes);
    multiply_units(panels);
  }
}

/// Levels of a block times its factors, for all units.
HWY_INLINE void scale_units(const Reconstruction& work, const std::int16_t* levels,
                            const std::int16_t* factors, std::int64_t n_segments,
                            const std::int16_t* next_levels) {
  for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
    const std::int64_t at = unit * block_values;
    if constexpr (multiplies_bytes) {
      scale_to_bytes(levels + at, factors, n_segments, reinterpret_cast<std::int8_t*>(work.scratch->y) + at,
                     work.scratch->offsets + unit * block_segments * unit_tokens, next_levels + at);
    } else {
      scale_levels(levels + at, factors, work.scratch->y + at, next_levels + at);
    }
  }
}

/// What an integer of a block's sums is worth.  steps: [n_segments]
HWY_INLINE void steps_of(const Reconstruction& work, std::int64_t block, float largest_level,
                         std::int64_t n_segments, float* steps) {
  constexpr float bytes_for_pairs = multiplies_bytes ? 32767.0f / 127.0f : 1.0f;
  for (std::int64_t i = 0; i < n_segments; ++i) {
    steps[i] = work.basis.steps_of(block, work.part)[i] * largest_level * bytes_for_pairs;
  }
}

void reconstruct_panels(const Reconstruction& work) {
  reconstruct_wide(work);
  const auto n_blocks = static_cast<std::int64_t>(work.others.size());
  for (std::int64_t i = 0; i < n_blocks; ++i) {
    const std::int64_t block = block_at(work.others, i);
    const std::byte* tile = work.basis.tile(block, work.part);
    const auto* factors = reinterpret_cast<const std::int16_t*>(tile + scale_bytes);
    const std::int8_t* codes = codes_of(work, i);
    const float largest = work.largest_levels[work.others[static_cast<std::size_t>(i)].bits];
    const std::int64_t n_segments = work.basis.n_segments(block);
    float steps[block_segments];
    steps_of(work, block, largest, n_segments, steps);
    const std::int16_t* levels = work.levels + i * work.n_units * block_values;
    const std::int16_t* next_levels = i + 1 < n_blocks ? levels + work.n_units * block_values : levels;
    scale_units(work, levels, factors, n_segments, next_levels);
    const std::int8_t* next = i + 1 < n_blocks ? codes_of(work, i + 1) : nullptr;
    std::int64_t panel = 0;
    for (; panel + panels_at_once <= work.n_panels; panel += panels_at_once) {
      if (next != nullptr) fetch_panels(next + panel * panel_bytes, panels_at_once);
      add_panels<panels_at_once>(work, codes + panel * panel_bytes, steps, n_segments, panel);
    }
    for (; panel < work.n_panels; ++panel) {
      if (next != nullptr) fetch_panels(next + panel * panel_bytes, 1);
      add_panels<1>(work, codes + panel * panel_bytes, steps, n_segments, panel);
    }
  }
}

void read_block_levels(const std::byte* packed, std::int32_t bits, const IntegerLevels& levels,
                       std::int16_t* y) {
  if (bits == 1) return read_narrow<1>(packed, levels, y);
  if (bits == 2) return read_narrow<2>(packed, levels, y);
  if (bits == 4) return read_narrow<4>(packed, levels, y);
  // No plan gives 8 bits to components whose basis has 8.
  for (std::int64_t i = 0; i < block_values; ++i) {
    const std::int64_t component = i / unit_tokens, token = i % unit_tokens;
    y[(component / 2 * unit_tokens + token) * 2 + component % 2] =
        levels.at[static_cast<std::uint8_t>(packed[i])];
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
HWY_EXPORT(subtract_wide);
HWY_EXPORT(reconstruct_panels);
HWY_EXPORT(read_block_levels);
HWY_EXPORT(quantise);

}  // namespace

void project(const Projection& work) {
  HWY_DYNAMIC_DISPATCH(project_block)(work);
}

void subtract(const Subtraction& work) {
  HWY_DYNAMIC_DISPATCH(subtract_wide)(work);
}

void reconstruct(const Reconstruction& work) {
  HWY_DYNAMIC_DISPATCH(reconstruct_panels)(work);
}

void read_levels(const std::byte* packed, std::int32_t bits, const IntegerLevels& levels, std::int16_t* y) {
  HWY_DYNAMIC_DISPATCH(read_block_levels)(packed, bits, levels, y);
}

void quantise_block(const float* y, const float* deviation, std::int32_t bits, const Thresholds& thresholds,
                    std::byte* packed) {
  HWY_DYNAMIC_DISPATCH(quantise)(y, deviation, bits, thresholds, packed);
}

}  // namespace cga::cpu
#endif  // HWY_ONCE
