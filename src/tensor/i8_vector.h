// A vector as codes of a byte and one scale: how residents are kept. A code is the nearest multiple of the
// scale, which is the largest magnitude over 127, in bf16: that has the range of f32, and costs a shift.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "base/half.h"
#include "base/host_device.h"

namespace cga {

/// What turns a vector's values into codes, and back.
struct I8Scale {
  std::uint16_t stored;  // bf16
  float inverse;
};

/// @param largest  magnitude in the vector, finite. A vector of subnormal values becomes zero.
CGA_HOST_DEVICE inline I8Scale i8_scale(float largest) {
  const std::uint16_t stored = f32_to_bf16(largest / 127.0f);
  const float scale = bf16_to_f32(stored);
  if (scale < std::numeric_limits<float>::min()) return {0, 0.0f};
  return {stored, 1.0f / scale};
}

/// Ties go to the even code. bf16 may be too small a scale by 1/512: 127.25 still becomes 127.
CGA_HOST_DEVICE inline std::int8_t i8_code(float value, float inverse) {
  constexpr float to_integer = 12582912.0f;  // 1.5 * 2^23: adding it leaves no fraction
  return static_cast<std::int8_t>(value * inverse + to_integer - to_integer);
}

}  // namespace cga
