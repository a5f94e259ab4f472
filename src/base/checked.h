// Arithmetic on numbers that come from files: an overflow is an answer (nullopt), never a wrapped value.
#pragma once

#include <concepts>
#include <optional>

namespace cga {

template <std::integral T>
std::optional<T> checked_add(T a, T b) {
  T result;
  if (__builtin_add_overflow(a, b, &result)) return std::nullopt;
  return result;
}

template <std::integral T>
std::optional<T> checked_mul(T a, T b) {
  T result;
  if (__builtin_mul_overflow(a, b, &result)) return std::nullopt;
  return result;
}

/// `value` rounded up to a multiple of `step` (> 0). The caller knows that the sum fits.
template <std::integral T>
constexpr T round_up(T value, T step) {
  return (value + step - 1) / step * step;
}

template <std::integral T>
constexpr T div_up(T value, T step) {
  return (value + step - 1) / step;
}

}  // namespace cga
