// A vector of the index, rotated and rounded to int8 by one warp, as docs/sidecar.md says: the reference's
// operations in its order, none fused, hence its bits.
#pragma once

namespace cga::cuda {

/// Channel i of x after rotation: the second half's first quarter of all channels turns with its second.
/// x: [width]; cos_sin: [2, width/4]
__device__ inline float rotated(const float* x, const float* cos_sin, int width, int i) {
  const int pairs = width / 4, first = width - 2 * pairs;
  if (i < first) return x[i];
  const int pair = (i - first) % pairs;
  const float a = x[first + pair], b = x[first + pairs + pair];
  const float cos = cos_sin[pair], sin = cos_sin[pairs + pair];
  if (i < first + pairs) return __fsub_rn(__fmul_rn(a, cos), __fmul_rn(b, sin));
  return __fadd_rn(__fmul_rn(b, cos), __fmul_rn(a, sin));
}

/// What a rotated vector's codes are multiples of. All lanes call it, and all get it.
__device__ inline float warp_scale(const float* x, const float* cos_sin, int width) {
  float largest = 0;
  for (int i = threadIdx.x % 32; i < width; i += 32) {
    largest = fmaxf(largest, fabsf(rotated(x, cos_sin, width, i)));
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
  return largest > 0 ? __fdiv_rn(largest, 127.0f) : 1.0f;
}

__device__ inline signed char index_code(float value, float scale) {
  const float code = rintf(__fdiv_rn(value, scale));
  return static_cast<signed char>(fminf(fmaxf(code, -127.0f), 127.0f));
}

}  // namespace cga::cuda
