// The transform of one layer group as it lies in a sidecar, not owned: what turns the group's keys and values
// of a token into a latent vector and back. docs/sidecar.md defines every field.
#pragma once

#include <cstdint>

namespace cga {

/// Channels that share a scale of the int8 basis.
inline constexpr std::int64_t basis_scale_channels = 128;

struct LatentView {
  std::int64_t n = 0;  // channels: keys of the group's layers in order, head by head; then values likewise
  std::int64_t m = 0;  // components, sorted by variance; a multiple of 64
  std::int64_t w = 0;  // the first of them, whose basis is stored in 16 bits; a multiple of 64
  const float* mean = nullptr;                 // [n], f32
  const float* scale = nullptr;                // [n], f32: the sensitivity, > 0
  const float* variance = nullptr;             // [m], f32: > 0, not increasing
  const std::uint16_t* basis_wide = nullptr;   // [w, n], f16
  const std::int8_t* basis = nullptr;          // [m - w, n], i8
  const std::uint16_t* basis_scale = nullptr;  // [m - w, n / 128], f16
  const float* codebook1 = nullptr;            // [2], f32, increasing; for unit variance, as the others
  const float* codebook2 = nullptr;            // [4], f32
  const float* codebook4 = nullptr;            // [16], f32

  /// What the transform takes in memory: the basis, its scales, and the vectors.
  std::int64_t bytes() const {
    return 2 * w * n + (m - w) * (n + 2 * n / basis_scale_channels) + 4 * (2 * n + m + 2 + 4 + 16);
  }
};

/// The level of a code for unit variance: a component is reconstructed as its deviation times this.
/// @param bits  1, 2, 4 or 8
inline float latent_level(const LatentView& view, std::int32_t bits, std::int32_t code) {
  switch (bits) {
    case 1:
      return view.codebook1[code];
    case 2:
      return view.codebook2[code];
    case 4:
      return view.codebook4[code];
    default:
      return (static_cast<float>(code) - 127.5f) * (11.0f / 255.0f);
  }
}

}  // namespace cga
