// Lanes' parts of the basis (pack.h) as operands of mma.m16n8k16. In comments g = lane / 4 and t = lane % 4.
//
// Factors of a product are f16 because the basis is: f16 as it is stored, and whole numbers to ±127 in int8.
// What it is multiplied by is f32 and becomes one f16 where 11 bits will do, or the sum of two, with 22.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "kernels/cuda/attention/mma.cuh"

namespace cga::cuda {

/// Two of four bytes, u = q + 128 each, as q in f16: 0x6400 + u is 1024 + u there, and the rest is exact.
template <std::uint32_t bytes>
__device__ inline std::uint32_t widen_codes(std::uint32_t codes) {
  static_assert(bytes == 0x4140u || bytes == 0x4342u, "the first two or the others, each below a 0x64");
  const std::uint32_t biased = __byte_perm(codes, 0x64646464u, bytes);
  const __half2 value =
      __hsub2(reinterpret_cast<const __half2&>(biased), __half2half2(__ushort_as_half(0x6480u)));  // 1152
  return reinterpret_cast<const std::uint32_t&>(value);
}

/// 16 channels (rows) × 16 components of a lane's 8 bytes of int8.
__device__ inline void widen_part(std::uint32_t (&a)[4], std::uint32_t low, std::uint32_t high) {
  a[0] = widen_codes<0x4140u>(low);
  a[1] = widen_codes<0x4342u>(low);
  a[2] = widen_codes<0x4140u>(high);
  a[3] = widen_codes<0x4342u>(high);
}

__device__ inline void take_part(std::uint32_t (&a)[4], const uint4& part) {
  a[0] = part.x;
  a[1] = part.y;
  a[2] = part.z;
  a[3] = part.w;
}

/// From channels as rows to components as rows. Row g then is component part_row(g), row g + 8 the one two
/// further.
__device__ inline void turn_part(std::uint32_t (&a)[4]) {
  const std::uint32_t upper = transpose(a[1]), lower = transpose(a[2]);
  a[0] = transpose(a[0]);
  a[1] = lower;  // components 4t + 2, 4t + 3 of channels 0 to 7
  a[2] = upper;  // components 4t, 4t + 1 of channels 8 to 15
  a[3] = transpose(a[3]);
}

__host__ __device__ constexpr int part_row(int row) {
  return row / 2 * 4 + row % 2;
}

}  // namespace cga::cuda
