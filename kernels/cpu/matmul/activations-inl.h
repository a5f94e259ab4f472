// Activations to int16, one scale for each 32 columns. Plain loops over a block: the compiler vectorises them
// for each target, and every target rounds alike.
// clang-format off
#if defined(CGA_ACTIVATIONS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_ACTIVATIONS_INL_H
#undef CGA_ACTIVATIONS_INL_H
#else
#define CGA_ACTIVATIONS_INL_H
#endif
// clang-format on

#include <algorithm>
#include <bit>
#include <limits>

#include "hwy/highway.h"
#include "kernels/cpu/matmul/panel.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

/// The largest magnitude of a block, as bits: magnitudes order as integers, infinities and NaN above the
/// rest.
inline std::uint32_t largest_magnitude(const float* x) {
  std::uint32_t largest = 0;
  for (int i = 0; i < block_cols; ++i) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu);
  }
  return largest;
}

/// x * inverse rounded to integers in ±32767.
inline void round_block(const float* x, float inverse, std::int32_t* q) {
  // Adding 1.5 * 2^23 leaves the nearest integer (ties to even) in the low bits of the sum.
  constexpr float shift = 0x1.8p23f;
  for (int i = 0; i < block_cols; ++i) {
    q[i] = std::bit_cast<std::int32_t>(x[i] * inverse + shift) - std::bit_cast<std::int32_t>(shift);
  }
}

inline void quantise_block(const float* x, ActivationBlock& out) {
  std::int32_t q[block_cols] = {};
  const std::uint32_t bits = largest_magnitude(x);
  const float largest = std::bit_cast<float>(bits);
  out.scale = 0.0f;
  if (bits >= 0x7f800000u) {  // infinite or NaN: so is everything it takes part in
    out.scale = std::numeric_limits<float>::quiet_NaN();
  } else if (largest >= 0x1p-110f) {  // below, 32767 / largest would overflow
    out.scale = largest / 32767.0f;
    round_block(x, 32767.0f / largest, q);
  }
  std::int32_t sum[2] = {};
  for (int i = 0; i < block_cols; ++i) {
    out.q[(i & ~3) + activation_order[i & 3]] = static_cast<std::int16_t>(q[i]);
  }
  for (int i = 0; i < block_cols / 2; ++i) {
    sum[0] += q[i];
    sum[1] += q[i + block_cols / 2];
  }
  out.sum = out.scale * static_cast<float>(sum[0] + sum[1]);
  out.half_sum[0] = out.scale * static_cast<float>(sum[0]);
  out.half_sum[1] = out.scale * static_cast<float>(sum[1]);
}

inline void quantise_tile_simd(const float* x, std::int64_t cols, int n, ActivationBlock* out) {
  const std::int64_t n_blocks = cols / block_cols;
  for (int t = 0; t < n; ++t) {
    for (std::int64_t b = 0; b < n_blocks; ++b) {
      quantise_block(x + t * cols + b * block_cols, out[b * n + t]);
    }
  }
}

inline const char* target_name() {
  return hwy::TargetName(HWY_TARGET);
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
