// The basis in the order in which lanes of a warp take it: parts of 32 channels × 16 components, of which
// each lane has 16 bytes (int8) or 2 × 16 bytes (f16) in one place. Host only.
//
// A lane (g = lane / 4, t = lane % 4) has, of each 16 channels of a part, channels g and g + 8 of components
// 4t to 4t + 3. These are the operand A of mma.m16n8k16 with channels as rows, if components 4t to 4t + 3
// are called columns 2t, 2t + 1, 2t + 8, 2t + 9: then a lane's codes of its four components are neighbours,
// too. Transposed, 8 × 8 at a time, they are the operand with components as rows, which coding multiplies by.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kernels/cuda/latent/plan.h"
#include "tensor/latent_view.h"

namespace cga::cuda {

inline constexpr std::int32_t part_elements = panel_channels * step_components;

/// Place of an element in its part.
/// @param channel    in the panel
/// @param component  in the step
/// @param wide       f16: the lanes' 16 bytes of the first 16 channels come before those of the others
constexpr std::int32_t place_in_part(std::int32_t channel, std::int32_t component, bool wide) {
  const std::int32_t tile = channel / 16, row = channel % 16;
  const std::int32_t lane = row % 8 * 4 + component / 4;
  const std::int32_t element = component % 4 / 2 * 4 + row / 8 * 2 + component % 2;
  return wide ? tile * 256 + lane * 8 + element : lane * 16 + tile * 8 + element;
}

/// Rearranges rows of components.
/// @param rows  [n_components, n]
/// @param turn  what becomes of an element
/// @return [n / 32, n_components / 16, 512]
template <class To, class From, class Turn>
std::vector<To> pack_basis(const From* rows, std::int64_t n_components, std::int64_t n, bool wide,
                           const Turn& turn) {
  std::array<std::uint16_t, part_elements> places{};  // [16 components, 32 channels]
  for (std::int32_t i = 0; i < part_elements; ++i) {
    places[static_cast<std::size_t>(i)] =
        static_cast<std::uint16_t>(place_in_part(i % panel_channels, i / panel_channels, wide));
  }
  const std::int64_t n_steps = n_components / step_components, n_panels = n / panel_channels;
  std::vector<To> packed(static_cast<std::size_t>(n_components * n));
  for (std::int64_t step = 0; step < n_steps; ++step) {
    for (std::int64_t panel = 0; panel < n_panels; ++panel) {
      To* const part = packed.data() + (panel * n_steps + step) * part_elements;
      const std::uint16_t* place = places.data();
      for (std::int64_t k = 0; k < step_components; ++k) {
        const From* const from = rows + (step * step_components + k) * n + panel * panel_channels;
        for (std::int64_t c = 0; c < panel_channels; ++c) part[*place++] = turn(from[c]);
      }
    }
  }
  return packed;
}

/// int8 as the kernels widen it: q + 128.
inline std::vector<std::uint8_t> pack_narrow(const LatentView& view) {
  return pack_basis<std::uint8_t>(view.basis, view.m - view.w, view.n, false, [](std::int8_t code) {
    return static_cast<std::uint8_t>(static_cast<std::uint8_t>(code) ^ 0x80u);
  });
}

inline std::vector<std::uint16_t> pack_wide(const LatentView& view) {
  return pack_basis<std::uint16_t>(view.basis_wide, view.w, view.n, true,
                                   [](std::uint16_t value) { return value; });
}

}  // namespace cga::cuda
