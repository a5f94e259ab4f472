// Codes of one block of 64 components for a page or half of one: 64 × 64 or 64 × 32 inner products over all
// channels, and the nearest levels. Four of eight warps have 16 components each of the first half of the
// tokens, the others of the second.
//
// Products of a tile of 128 channels are added up by the tensor cores; what a tile gives is multiplied by the
// tile's scale and added to the others in f32. So an element of the basis is as exact as it is stored, and no
// long sum is left to the cores, which cut off what they add. Pages and blocks leave no trace.
#pragma once

#include "kernels/cuda/latent/operand.cuh"
#include "kernels/cuda/latent/params.h"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/every_device.h"

namespace cga::cuda {

inline constexpr int project_threads = 256;
inline constexpr int tile_channels = static_cast<int>(basis_scale_channels);
inline constexpr int tile_row_bytes = 2 * tile_channels + 16;  // rows of ldmatrix differ in bank

/// Rows of z in shared memory: two tiles of high and low.
template <int tokens>
struct TileRows {
  static constexpr int plane_bytes = tokens * tile_row_bytes;
  static constexpr int tile_bytes = 2 * plane_bytes;
  static constexpr int bytes = 2 * tile_bytes;
};

struct ProjectArgs {
  LatentData latent;
  SplitRows z;                         // of all pages
  const CodedBlock* blocks = nullptr;  // [n_blocks], all wide or none
  std::int32_t n_blocks = 0;
  std::byte* coded = nullptr;
  std::int64_t unit_bytes = 0;
  const std::int32_t* units = nullptr;  // [4 · n_pages]
  std::int32_t n_pages = 0;
};

/// Copies a tile of some rows.  to: [2, tokens, tile_row_bytes], shared
template <int tokens>
__device__ inline void fetch_tile(const SplitRows& z, std::int64_t first_row, int n, int tile,
                                  std::byte* to) {
  constexpr int chunks = tile_channels / 8;  // of 16 bytes, a row
  for (int i = threadIdx.x; i < 2 * tokens * chunks; i += project_threads) {
    const int plane = i / (tokens * chunks), row = i / chunks % tokens, chunk = i % chunks;
    const __half* from =
        (plane == 0 ? z.high : z.low) + (first_row + row) * n + tile * tile_channels + chunk * 8;
    copy_async(shared_address(to + plane * TileRows<tokens>::plane_bytes + row * tile_row_bytes + chunk * 16),
               from);
  }
}

/// The basis of 16 components and the 128 channels of a tile, as a lane has it.
template <bool wide>
struct BasisTile {
  static constexpr int panels = tile_channels / panel_channels;
  uint4 parts[panels][wide ? 2 : 1];

  /// @param component  the first of the 16
  __device__ void load(const LatentData& latent, int tile, int component) {
    const int lane = threadIdx.x % 32;
    const int first = wide ? 0 : latent.w;
    const std::int64_t n_steps = (wide ? latent.w : latent.m - latent.w) / step_components;
    const auto* from =
        wide ? reinterpret_cast<const uint4*>(latent.wide) : reinterpret_cast<const uint4*>(latent.narrow);
    for (int p = 0; p < panels; ++p) {
      const std::int64_t part =
          (std::int64_t{tile} * panels + p) * n_steps + (component - first) / step_components;
      for (int i = 0; i < (wide ? 2 : 1); ++i) parts[p][i] = from[(part * (wide ? 2 : 1) + i) * 32 + lane];
    }
  }

  /// 16 components as rows, channels 16 · i on of panel p as columns.
  __device__ void operand(int p, int i, std::uint32_t (&a)[4]) const {
    if constexpr (wide) {
      take_part(a, parts[p][i]);
    } else {
      const uint4& part = parts[p][0];
      i == 0 ? widen_part(a, part.x, part.y) : widen_part(a, part.z, part.w);
    }
    turn_part(a);
  }
};

/// sums[16 components, 8 · eights tokens] of one tile.
/// @param rows  the warp's tokens in the tile's plane of high; low is plane_bytes further
template <bool wide, int eights>
__device__ inline void multiply_tile(const BasisTile<wide>& basis, const std::byte* rows, int plane_bytes,
                                     float (&sums)[eights][4]) {
  const int lane = threadIdx.x % 32;
  const std::uint32_t from = shared_address(rows + lane % 8 * tile_row_bytes + lane / 8 * 16);
#pragma unroll
  for (int p = 0; p < BasisTile<wide>::panels; ++p) {
    std::uint32_t a[2][4];
    basis.operand(p, 0, a[0]);
    basis.operand(p, 1, a[1]);
    for (int plane = 0; plane < 2; ++plane) {
      std::uint32_t z[eights][4];  // [8 tokens][8 channels]
      for (int e = 0; e < eights; ++e) {
        load_matrices(z[e], from + plane * plane_bytes + e * 8 * tile_row_bytes + p * panel_channels * 2);
      }
      for (int i = 0; i < 2; ++i) {
        for (int e = 0; e < eights; ++e) mma<__half>(sums[e], a[i], z[e][2 * i], z[e][2 * i + 1]);
      }
    }
  }
}

/// The nearest level of a value of unit variance; of two the lower.
/// @param borders  [16], of the width if it is less than 8
__device__ inline std::uint32_t nearest_level(float value, int bits, const float* borders) {
  if (bits == 8) {
    return static_cast<std::uint32_t>(fminf(fmaxf(ceilf(value * (255.0f / 11.0f) + 127.0f), 0.0f), 255.0f));
  }
  std::uint32_t code = 0;
  for (int i = 0; i < (1 << bits) - 1; ++i) code += value > borders[i] ? 1 : 0;
  return code;
}

/// One component of a unit. Four lanes together have its 16 codes: lane t those of tokens 2t, 2t + 1, 2t + 8
/// and 2t + 9.
/// @param packed  [2 · bits], bytes
__device__ inline void store_codes(const std::uint32_t (&codes)[4], int bits, std::byte* packed) {
  const int t = threadIdx.x % 4;
  const std::uint32_t low = codes[0] | codes[1] << bits, high = codes[2] | codes[3] << bits;
  if (bits == 8) {
    reinterpret_cast<std::uint16_t*>(packed)[t] = static_cast<std::uint16_t>(low);
    reinterpret_cast<std::uint16_t*>(packed)[t + 4] = static_cast<std::uint16_t>(high);
    return;
  }
  if (bits == 4) {
    packed[t] = static_cast<std::byte>(low);
    packed[t + 4] = static_cast<std::byte>(high);
    return;
  }
  std::uint32_t all = low << 2 * bits * t | high << (2 * bits * t + 8 * bits);
  all |= __shfl_xor_sync(~0u, all, 1);
  all |= __shfl_xor_sync(~0u, all, 2);
  if (t != 0) return;
  if (bits == 2) {
    *reinterpret_cast<std::uint32_t*>(packed) = all;
  } else {
    *reinterpret_cast<std::uint16_t*>(packed) = static_cast<std::uint16_t>(all);
  }
}

/// Grid: [n_pages * 64 / tokens, n_blocks].
template <bool wide, int tokens>
__global__ void __launch_bounds__(project_threads, wide ? 1 : 2) project_kernel(ProjectArgs args) {
  using Rows = TileRows<tokens>;
  constexpr int eights = tokens / 16;  // of a warp's tokens
  extern __shared__ uint4 project_memory[];
  __shared__ float borders[3][16];
  const LatentData& latent = args.latent;
  const int warp = threadIdx.x / 32, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const CodedBlock block = args.blocks[blockIdx.y];
  const int step = warp % 4, half = warp / 4;  // components, tokens
  const int component = block.component + step * step_components;
  const int rows[2] = {part_row(g), part_row(g) + 2};  // of a lane's sums: components of the step
  const std::int64_t first_row = std::int64_t{blockIdx.x} * tokens;
  auto* const memory = reinterpret_cast<std::byte*>(project_memory);
  for (int i = threadIdx.x; i < 48; i += project_threads) {
    borders[i / 16][i % 16] = latent.tables->borders[i / 16][i % 16];
  }

  float all[eights][4] = {};
  BasisTile<wide> basis, next;
  const int n_tiles = latent.n / tile_channels;
  fetch_tile<tokens>(args.z, first_row, latent.n, 0, memory);
  commit_copies();
  next.load(latent, 0, component);
  for (int tile = 0; tile < n_tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // the tile is there, and nobody reads the one before it any more
    basis = next;
    if (tile + 1 < n_tiles) {
      fetch_tile<tokens>(args.z, first_row, latent.n, tile + 1, memory + (tile + 1) % 2 * Rows::tile_bytes);
      commit_copies();
      next.load(latent, tile + 1, component);
    }
    const float* const factors = latent.factor + std::int64_t{tile} * latent.m + component;
    const float factor[2] = {factors[rows[0]], factors[rows[1]]};
    float sums[eights][4] = {};
    multiply_tile(basis, memory + tile % 2 * Rows::tile_bytes + half * (tokens / 2) * tile_row_bytes,
                  Rows::plane_bytes, sums);
    for (int e = 0; e < eights; ++e) {
      for (int i = 0; i < 4; ++i) all[e][i] += factor[i / 2] * sums[e][i];
    }
  }

  float per_row[eights][2];  // 1 / power of tokens 2t and 2t + 1 of each 8
  for (int i = 0; i < 2 * eights; ++i) {
    const std::int64_t row = first_row + half * (tokens / 2) + i / 2 * 8 + 2 * t + i % 2;
    per_row[i / 2][i % 2] = 1.0f / args.z.power[row];
  }
  for (int r = 0; r < 2; ++r) {
    const float inverse = latent.inverse_factor[component + rows[r]];
    for (int u = 0; u < eights / 2; ++u) {  // units of the warp's tokens
      std::uint32_t codes[4];
      for (int i = 0; i < 4; ++i) {
        const int e = 2 * u + i / 2;
        const float value = all[e][2 * r + i % 2] * inverse * per_row[e][i % 2];
        codes[i] = nearest_level(value, block.bits, borders[min(block.bits / 2, 2)]);
      }
      const int unit = args.units[(blockIdx.x * 2 + half) * (eights / 2) + u];
      std::byte* const to = args.coded + unit * args.unit_bytes + block.offset;
      store_codes(codes, block.bits, to + (step * step_components + rows[r]) * 2 * block.bits);
    }
  }
}

template <bool wide, int tokens>
void launch_project_kernel(const ProjectArgs& args, cudaStream_t stream) {
  constexpr int shared = TileRows<tokens>::bytes;
  static_assert(shared <= least_shared_per_cta);
  const auto kernel = project_kernel<wide, tokens>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared), "encode_pages");
  const dim3 grid(args.n_pages * (page_tokens / tokens), args.n_blocks);
  kernel<<<grid, project_threads, shared, stream>>>(args);
  check(cudaGetLastError(), "encode_pages");
}

template <bool wide>
void launch_project(const ProjectArgs& args, int multiprocessors, cudaStream_t stream) {
  if (args.n_blocks == 0) return;
  whole_pages(args.n_blocks, args.n_pages, multiprocessors)
      ? launch_project_kernel<wide, page_tokens>(args, stream)
      : launch_project_kernel<wide, page_tokens / 2>(args, stream);
}

}  // namespace cga::cuda
