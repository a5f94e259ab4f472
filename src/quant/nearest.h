// Rounding to codes, shared by the encoders of the small block types. Scales are rounded to f16 first and
// codes chosen for the scale as stored. Values must be finite.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/half.h"
#include "base/host_device.h"

namespace cga {

/// The code in [0, max] nearest to x; NaN becomes 0.
CGA_HOST_DEVICE inline std::uint8_t nearest_code(float x, int max) {
  const float top = static_cast<float>(max);
  const float positive = x > 0.0f ? x : 0.0f;
  const float bounded = positive < top ? positive : top;
  const int halves = static_cast<int>(2.0f * bounded);
  return static_cast<std::uint8_t>((halves + 1) / 2);
}

/// 1 / scale, and 0 for a scale of 0: all codes of such a block mean the same value.
CGA_HOST_DEVICE inline float inverse(float scale) {
  return scale == 0.0f ? 0.0f : 1.0f / scale;
}

struct Range {
  float low, high;
};

/// The least and the largest value; n is a multiple of 16. Eight of each are kept, because a compiler may not
/// reorder the comparisons of a single one into SIMD.
inline Range range_of(const float* values, int n) {
  float low[8], high[8];
  for (int lane = 0; lane < 8; ++lane) low[lane] = high[lane] = values[lane];
  for (int i = 8; i < n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) {
      low[lane] = values[i + lane] < low[lane] ? values[i + lane] : low[lane];
      high[lane] = values[i + lane] > high[lane] ? values[i + lane] : high[lane];
    }
  }
  return {*std::min_element(low, low + 8), *std::max_element(high, high + 8)};
}

/// The value of largest magnitude, with its sign; n is a multiple of 16.
inline float extreme(const float* values, int n) {
  const Range range = range_of(values, n);
  return range.high >= -range.low ? range.high : range.low;
}

/// w = scale * (q - levels/2). The extreme gets code 0, which reaches one step further from zero than the
/// largest code does.
/// @param q  [n]
/// @return the scale as f16
inline std::uint16_t nearest_symmetric(const float* values, int n, int levels, std::uint8_t* q) {
  const int zero = levels / 2;
  const std::uint16_t stored = f32_to_f16(extreme(values, n) / static_cast<float>(-zero));
  const float per_step = inverse(f16_to_f32(stored));
  for (int i = 0; i < n; ++i) {
    q[i] = nearest_code(values[i] * per_step + static_cast<float>(zero), levels - 1);
  }
  return stored;
}

struct AffineScale {
  std::uint16_t scale, low;  // f16
};

/// w = scale * q + low.
/// @param q  [n]
inline AffineScale nearest_affine(const float* values, int n, int levels, std::uint8_t* q) {
  const auto [low, high] = range_of(values, n);
  const AffineScale stored{f32_to_f16((high - low) / static_cast<float>(levels - 1)), f32_to_f16(low)};
  const float per_step = inverse(f16_to_f32(stored.scale));
  const float origin = f16_to_f32(stored.low);
  for (int i = 0; i < n; ++i) q[i] = nearest_code((values[i] - origin) * per_step, levels - 1);
  return stored;
}

}  // namespace cga
