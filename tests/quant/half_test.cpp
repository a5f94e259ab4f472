// Every 16-bit pattern of both half formats, against arithmetic that shares nothing with base/half.h.
#include "base/half.h"

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "support/catch.h"

namespace cga {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::uint32_t bits(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

/// The value of a small float format by its definition: ±1.m * 2^(e - bias), or ±0.m * 2^(1 - bias).
float by_definition(int pattern, int exponent_bits, int mantissa_bits) {
  const int mantissa = pattern & ((1 << mantissa_bits) - 1);
  const int exponent = pattern >> mantissa_bits & ((1 << exponent_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = pattern >> 15 != 0 ? -1.0 : 1.0;
  if (exponent == (1 << exponent_bits) - 1) {
    return mantissa != 0 ? std::nanf("") : static_cast<float>(sign) * infinity;
  }
  const double significand = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  const int power = (exponent == 0 ? 1 : exponent) - bias - mantissa_bits;
  return static_cast<float>(sign * std::ldexp(significand, power));
}

struct Format {
  const char* name;
  float (*widen)(std::uint16_t);
  std::uint16_t (*narrow)(float);
  int exponent_bits, mantissa_bits;
};

const Format formats[] = {{"f16", f16_to_f32, f32_to_f16, 5, 10}, {"bf16", bf16_to_f32, f32_to_bf16, 8, 7}};

TEST_CASE("widening is exact for all 65536 patterns, and narrowing brings them back") {
  for (const Format& format : formats) {
    INFO(format.name);
    int wrong = 0, not_back = 0;
    for (int pattern = 0; pattern < 65536; ++pattern) {
      const auto half = static_cast<std::uint16_t>(pattern);
      const float expected = by_definition(pattern, format.exponent_bits, format.mantissa_bits);
      const float value = format.widen(half);
      if (std::isnan(expected)) {
        wrong += !std::isnan(value);
        not_back += !std::isnan(format.widen(format.narrow(value)));
      } else {
        wrong += bits(value) != bits(expected);
        not_back += format.narrow(value) != half;
      }
    }
    CHECK(wrong == 0);
    CHECK(not_back == 0);
  }
}

TEST_CASE("halfway between two neighbours rounds to the even one, and a hair off to the nearer") {
  for (const Format& format : formats) {
    INFO(format.name);
    const int largest = ((1 << format.exponent_bits) - 1) << format.mantissa_bits;  // infinity's pattern
    int wrong = 0;
    for (const int sign : {0, 0x8000}) {
      for (int pattern = 0; pattern + 1 < largest; ++pattern) {
        const auto below = static_cast<std::uint16_t>(sign | pattern);
        const auto above = static_cast<std::uint16_t>(below + 1);
        const double middle = (double{format.widen(below)} + double{format.widen(above)}) / 2;
        const auto tie = static_cast<float>(middle);
        if (double{tie} != middle) continue;  // between f32's own subnormals
        wrong += format.narrow(tie) != ((below & 1) == 0 ? below : above);
        wrong += format.narrow(std::nextafter(tie, 0.0f)) != below;
        wrong += format.narrow(std::nextafter(tie, sign != 0 ? -infinity : infinity)) != above;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("overflow becomes infinity, and not-a-number stays one") {
  CHECK(f32_to_f16(65519.99f) == 0x7bff);
  CHECK(f32_to_f16(65520.0f) == 0x7c00);
  CHECK(f32_to_f16(-1e30f) == 0xfc00);
  CHECK(f32_to_f16(0x1p-25f) == 0x0000);
  CHECK(f32_to_f16(-0x1.000002p-25f) == 0x8001);
  CHECK(f32_to_bf16(std::numeric_limits<float>::max()) == 0x7f80);
  // A payload that lives in the lower half only must not turn into infinity.
  const float quiet = std::bit_cast<float>(0x7f800001u);
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(quiet))));
  CHECK(std::isnan(f16_to_f32(f32_to_f16(quiet))));
}

#if defined(__FLT16_MAX__)
TEST_CASE("f16 agrees with the compiler's own type on random floats") {
  std::mt19937 random(11);
  int wrong = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
    if (std::isnan(value)) continue;
    const _Float16 narrowed = static_cast<_Float16>(value);
    wrong += f32_to_f16(value) != std::bit_cast<std::uint16_t>(narrowed);
    wrong += bits(f16_to_f32(std::bit_cast<std::uint16_t>(narrowed))) != bits(static_cast<float>(narrowed));
  }
  CHECK(wrong == 0);
}
#endif

}  // namespace
}  // namespace cga
