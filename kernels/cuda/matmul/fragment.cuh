// A lane's share of a weight tile in registers, and how it becomes operands of mma.
#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/matmul/mma.cuh"
#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {

/// Where a tile is, in device or shared memory.
struct TileAddress {
  const std::byte* codes = nullptr;
  const std::byte* plane = nullptr;
  const std::byte* numbers = nullptr;
};

template <class Tile>
__device__ __forceinline__ TileAddress address_of(const TileArrays& w, std::int64_t tile) {
  return {w.codes + tile * Tile::code_bytes, w.plane + tile * Tile::plane_bytes,
          w.numbers + tile * Tile::numbers_bytes};
}

/// A fragment of an integer tile gives each mma's operand as f16 with the value q * 2^-24, and scales (and
/// minima) of a lane's two rows.
template <class Tile>
struct Fragment {
  static constexpr int n_codes = Tile::code_bytes / 512, n_plane = Tile::plane_bytes / 128;
  static constexpr int n_numbers = Tile::numbers_bytes / 32;  // words of two f16
  static_assert(n_numbers == 2 || n_numbers == 4);

  std::uint32_t codes[4 * n_codes];
  std::uint32_t plane[n_plane == 0 ? 1 : n_plane];
  std::uint32_t numbers[n_numbers];

  __device__ __forceinline__ void load(const TileAddress& from, int lane) {
    const auto* code = reinterpret_cast<const uint4*>(from.codes) + lane;
#pragma unroll
    for (int i = 0; i < n_codes; ++i) set(codes + 4 * i, code[32 * i]);
    if constexpr (n_plane == 1) plane[0] = reinterpret_cast<const std::uint32_t*>(from.plane)[lane];
    if constexpr (n_plane == 2) set(plane, reinterpret_cast<const uint2*>(from.plane)[lane]);
    if constexpr (n_numbers == 2) set(numbers, reinterpret_cast<const uint2*>(from.numbers)[lane / 4]);
    if constexpr (n_numbers == 4) set(numbers, reinterpret_cast<const uint4*>(from.numbers)[lane / 4]);
  }

  /// The operand of mma m of a half: {row g, row g + 8} of values 4m and 4m + 1, then of 4m + 2 and 4m + 3.
  __device__ __forceinline__ void operand(int half, int m, std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
#pragma unroll
      for (int row = 0; row < 2; ++row) a[2 * j + row] = pair(half, row, 2 * m + j);
    }
  }

  /// The operand of an integer mma of a half, in bytes: signed codes q - zero, or unsigned ones if there is
  /// no zero; code_unit times each.
  __device__ __forceinline__ void integers(int half, std::uint32_t (&a)[4]) const {
    constexpr std::uint32_t signs = Tile::zero != 0 ? 0x80808080u : 0u;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      if constexpr (Tile::bits == 8) {
        a[row] = codes[4 * half + 2 * row] ^ signs;
        a[2 + row] = codes[4 * half + 2 * row + 1] ^ signs;
      } else {
        const std::uint32_t word = codes[2 * half + row];
        a[row] = and_xor(word << 4, 0xf0f0f0f0u, signs);
        a[2 + row] = and_xor(word, 0xf0f0f0f0u, signs);
      }
    }
  }

  /// @param group  of the tile's, 0 … n_groups - 1
  __device__ __forceinline__ float scale(int row, int group) const {
    return number(row * Tile::n_groups + group);
  }
  __device__ __forceinline__ float min(int row, int group) const {
    return number((2 + row) * Tile::n_groups + group);
  }

 private:
  static __device__ __forceinline__ void set(std::uint32_t* to, uint4 v) {
    to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
  }
  static __device__ __forceinline__ void set(std::uint32_t* to, uint2 v) {
    to[0] = v.x, to[1] = v.y;
  }

  __device__ __forceinline__ float number(int i) const {
    const std::uint32_t word = numbers[i / 2];
    return __half2float(
        __ushort_as_half(static_cast<unsigned short>(i % 2 == 0 ? word & 0xffff : word >> 16)));
  }

  /// Values 2 p and 2 p + 1 of a row of a half.
  __device__ __forceinline__ std::uint32_t pair(int half, int row, int p) const {
    if constexpr (Tile::bits == 8) {
      return codes[4 * half + 2 * row + p / 2] >> (8 * (p % 2)) & 0x00ff00ffu;
    } else {
      const std::uint32_t low = codes[2 * half + row] >> (4 * p) & 0x000f000fu;
      if constexpr (Tile::bits == 5) return low | (to_bit_4(plane[0], 8 * half + 4 * row + p) & 0x00100010u);
      if constexpr (Tile::bits == 6) return low | (to_bit_4(plane[half], 2 * (4 * row + p)) & 0x00300030u);
      return low;
    }
  }

  /// (a & b) ^ c, as the one instruction that it is: left to itself the compiler takes two if b and c are
  /// constants.
  static __device__ __forceinline__ std::uint32_t and_xor(std::uint32_t a, std::uint32_t b, std::uint32_t c) {
    std::uint32_t out;
    asm("lop3.b32 %0, %1, %2, %3, 0x6a;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
    return out;
  }

  static __device__ __forceinline__ std::uint32_t to_bit_4(std::uint32_t word, int bit) {
    return bit < 4 ? word << (4 - bit) : word >> (bit - 4);
  }
};

template <class Element>
struct Fragment<FloatTile<Element>> {
  std::uint32_t codes[16];

  __device__ __forceinline__ void load(const TileAddress& from, int lane) {
    const auto* code = reinterpret_cast<const uint4*>(from.codes) + lane;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint4 v = code[32 * i];
      codes[4 * i] = v.x, codes[4 * i + 1] = v.y, codes[4 * i + 2] = v.z, codes[4 * i + 3] = v.w;
    }
  }

  __device__ __forceinline__ void operand(int half, int m, std::uint32_t (&a)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) a[i] = codes[4 * (2 * half + m) + i];
  }
};

}  // namespace cga::cuda
