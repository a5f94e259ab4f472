// A tile type's kernels: included by instantiations/, which names the tile types.
#pragma once

#include "kernels/cuda/matmul/decode.cuh"
#include "kernels/cuda/matmul/integer_decode.cuh"
#include "kernels/cuda/matmul/kernels.h"

namespace cga::cuda {

/// A value of a fragment's operand pair, as f32, before scales.
template <class Tile>
__device__ __forceinline__ float2 operand_values(std::uint32_t pair) {
  if constexpr (!Tile::is_float) {
    const float zero = static_cast<float>(Tile::zero);
    return {static_cast<float>(pair & 0xffffu) - zero, static_cast<float>(pair >> 16) - zero};
  } else if constexpr (std::is_same_v<typename Tile::element, BF16>) {
    return {__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u)};
  } else {
    return __half22float2(*reinterpret_cast<const __half2*>(&pair));
  }
}

/// One warp a tile. Lanes of a row write runs of 16 (groups of 16: 8) bytes.
template <class Tile>
__global__ void dequantise_kernel(const __grid_constant__ DequantiseArgs args) {
  const int lane = threadIdx.x % 32;
  const std::int64_t col_tiles = args.weight.col_tiles;
  const std::int64_t tile = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (tile >= args.n_rows / tile_rows * col_tiles) return;
  Fragment<Tile> w;
  w.load(address_of<Tile>(args.weight, args.first_row / tile_rows * col_tiles + tile), lane);
  const std::int64_t first_row = tile / col_tiles * tile_rows, first_col = tile % col_tiles * tile_cols;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      std::uint32_t a[4];
      w.operand(half, m, a);
#pragma unroll
      for (int row = 0; row < 2; ++row) {
        const std::int64_t r = first_row + lane / 4 + 8 * row;
        float2 v[2] = {operand_values<Tile>(a[row]), operand_values<Tile>(a[2 + row])};
        if constexpr (Tile::is_float) {
          const float inverse =
              __int_as_float((254 << 23) - __float_as_int(args.weight.row_scale[args.first_row + r]));
#pragma unroll
          for (float2& p : v) p.x *= inverse, p.y *= inverse;
        } else {
          const int group = Tile::group == 16 ? 2 * half + m : half;
          const float scale = w.scale(row, group);
          float min = 0.0f;
          if constexpr (Tile::has_min) min = w.min(row, group);
#pragma unroll
          for (float2& p : v) p.x = scale * p.x - min, p.y = scale * p.y - min;
        }
        const int column = 32 * half + column_in_half<Tile::group>(lane % 4, 4 * m);
        __half* out = args.out + r * (tile_cols * col_tiles) + first_col + column;
        const __half2 low = __floats2half2_rn(v[0].x, v[0].y), high = __floats2half2_rn(v[1].x, v[1].y);
        *reinterpret_cast<uint2*>(out) = {pack(low), pack(high)};
      }
    }
  }
}

template <class Tile>
void dequantise(const DequantiseArgs& args, cudaStream_t stream) {
  const std::int64_t tiles = args.n_rows / tile_rows * args.weight.col_tiles;
  dequantise_kernel<Tile><<<static_cast<unsigned>((tiles + 7) / 8), 256, 0, stream>>>(args);
  check(cudaGetLastError(), "dequantise_kernel");
}

template <class Tile>
const TileKernels* tile_kernels() {
  constexpr auto make = [](auto decode, auto decode_integers) {
    return TileKernels{Tile::code_bytes, Tile::plane_bytes, Tile::numbers_bytes, Tile::planes,
                       Tile::group,      Tile::step,        Tile::has_min,       decode,
                       decode_integers,  &dequantise<Tile>};
  };
  if constexpr (Tile::integer_products) {
    static constexpr TileKernels kernels = make(nullptr, &decode_integers<Tile>);
    return &kernels;
  } else {
    static constexpr TileKernels kernels = make(&decode<Tile>, nullptr);
    return &kernels;
  }
}

}  // namespace cga::cuda
