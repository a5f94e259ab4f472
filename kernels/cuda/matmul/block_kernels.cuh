// A block type's kernels: from the file's blocks to tiles, to rows of an embedding, and exact products.
// Included by instantiations/, which names the block types.
#pragma once

#include "kernels/cuda/matmul/activations.cuh"
#include "kernels/cuda/matmul/kernels.h"
#include "kernels/cuda/runtime/check.h"
#include "quant/block_type.h"

namespace cga::cuda {

template <class Block>
struct TileOfBlock {
  static constexpr IntegerForm form = Block::integer;
  using type = IntegerTile<form.bits, form.group, form.has_min, form.zero>;
};

/// decode_block with every operation rounded on its own, as on the host: left to itself nvcc would fuse the
/// multiplication and the subtraction.
template <class Block>
__device__ void decode_values(const Block& block, float (&out)[Block::values]) {
  if constexpr (Block::integer.bits == 0) {
    decode_block(block, out);
  } else {
    constexpr IntegerForm form = Block::integer;
    constexpr int n_groups = Block::values / form.group;
    std::uint8_t q[Block::values];
    float scale[n_groups], min[n_groups];
    block_codes(block, q, scale, min);
    for (int i = 0; i < Block::values; ++i) {
      const float product = __fmul_rn(scale[i / form.group], static_cast<float>(q[i] - form.zero));
      out[i] = form.has_min ? __fsub_rn(product, min[i / form.group]) : product;
    }
  }
}

/// No value of the block is larger.
template <class Block>
__device__ float bound_of(const Block& block) {
  float bound = 0.0f;
  if constexpr (Block::integer.bits == 0) {
    float value;
    decode_block(block, &value);
    bound = fabsf(value);
  } else {
    constexpr int n_groups = Block::values / Block::integer.group;
    std::uint8_t q[Block::values];
    float scale[n_groups], min[n_groups];
    block_codes(block, q, scale, min);
    for (int g = 0; g < n_groups; ++g) {
      bound = fmaxf(bound, fabsf(scale[g]) * static_cast<float>(1 << Block::integer.bits) + fabsf(min[g]));
    }
  }
  return bound;
}

/// Each row's power of two, which brings its scales into the range of f16. One warp a row.
template <class Block>
__global__ void row_scale_kernel(const __grid_constant__ ShuffleArgs args) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= args.n_rows) return;
  const auto* blocks = reinterpret_cast<const Block*>(args.blocks + row * args.row_bytes);
  float bound = 0.0f;
  for (std::int64_t i = threadIdx.x % 32; i < args.cols / Block::values; i += 32) {
    bound = fmaxf(bound, bound_of(blocks[i]));
  }
  for (int step = 16; step > 0; step /= 2) bound = fmaxf(bound, __shfl_xor_sync(0xffffffffu, bound, step));
  if (threadIdx.x % 32 == 0)
    const_cast<float*>(args.weight.row_scale)[args.first_row + row] = scale_of(bound);
}

/// The place of a column of a row in a tiled matrix.
struct TilePlace {
  std::int64_t tile;
  int row, half, lane;  // row: 0 for g, 1 for g + 8
};

__device__ __forceinline__ TilePlace place_of(std::int64_t col_tiles, std::int64_t row, std::int64_t column,
                                              int t) {
  const int r = static_cast<int>(row % tile_rows);
  return {row / tile_rows * col_tiles + column / tile_cols, r / 8, static_cast<int>(column % tile_cols / 32),
          4 * (r % 8) + t};
}

/// Writes the 8 codes of a lane's row and half.
template <class Tile>
__device__ void write_codes(const TileArrays& w, const TilePlace& p, const int (&q)[8]) {
  std::uint32_t words[2] = {}, plane = 0;
  for (int v = 0; v < 8; ++v) {
    const auto code = static_cast<std::uint32_t>(q[v]);
    if constexpr (Tile::bits == 8) {
      words[v / 4] |= code << (8 * (2 * (v % 2) + v / 2 % 2));
    } else {
      words[0] |= (code & 15) << (4 * (v / 2) + 16 * (v % 2));
      if constexpr (Tile::bits == 5) plane |= code >> 4 << (8 * p.half + 4 * p.row + v / 2 + 16 * (v % 2));
      if constexpr (Tile::bits == 6) plane |= code >> 4 << (2 * (4 * p.row + v / 2) + 16 * (v % 2));
    }
  }
  auto* codes = reinterpret_cast<std::uint32_t*>(const_cast<std::byte*>(w.codes) + p.tile * Tile::code_bytes);
  if constexpr (Tile::bits == 8) {
    codes += 4 * (32 * p.half + p.lane) + 2 * p.row;
    codes[0] = words[0];
    codes[1] = words[1];
  } else {
    codes[4 * p.lane + 2 * p.half + p.row] = words[0];
  }
  if constexpr (Tile::plane_bytes != 0) {  // words hold bits of two rows, which other threads write
    auto* planes = reinterpret_cast<unsigned*>(const_cast<std::byte*>(w.plane) + p.tile * Tile::plane_bytes);
    atomicOr(planes + (Tile::bits == 6 ? 2 * p.lane + p.half : p.lane), plane);
  }
}

/// Writes a group's scale (and minimum), divided by the row's scale.
template <class Tile>
__device__ void write_numbers(const TileArrays& w, const TilePlace& p, int group, float scale, float min,
                              float row_scale) {
  auto* numbers =
      reinterpret_cast<__half*>(const_cast<std::byte*>(w.numbers) + p.tile * Tile::numbers_bytes) +
      p.lane / 4 * (Tile::numbers_bytes / 16);
  const float inverse = __int_as_float((254 << 23) - __float_as_int(row_scale));
  numbers[p.row * Tile::n_groups + group] = __float2half_rn(scale * inverse);
  if constexpr (Tile::has_min) numbers[(2 + p.row) * Tile::n_groups + group] = __float2half_rn(min * inverse);
}

/// One thread a block.
template <class Block>
__global__ void shuffle_kernel(const __grid_constant__ ShuffleArgs args) {
  using Tile = typename TileOfBlock<Block>::type;
  constexpr int group = Tile::group, n_groups = Block::values / group;
  const std::int64_t row_blocks = args.cols / Block::values;
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= args.n_rows * row_blocks) return;
  const std::int64_t row = index / row_blocks, first = index % row_blocks * Block::values;
  std::uint8_t q[Block::values];
  float scale[n_groups], min[n_groups];
  block_codes(reinterpret_cast<const Block*>(args.blocks + row * args.row_bytes)[index % row_blocks], q,
              scale, min);
  const float row_scale = args.weight.row_scale[args.first_row + row];
  for (int half = 0; half < Block::values / 32; ++half) {
    for (int t = 0; t < 4; ++t) {
      int codes[8];
      for (int v = 0; v < 8; ++v) codes[v] = q[32 * half + column_in_half<group>(t, v)];
      write_codes<Tile>(args.weight,
                        place_of(args.weight.col_tiles, args.first_row + row, first + 32 * half, t), codes);
    }
  }
  for (int g = 0; g < n_groups; ++g) {
    const TilePlace place = place_of(args.weight.col_tiles, args.first_row + row, first + group * g, 0);
    write_numbers<Tile>(args.weight, place, static_cast<int>((first + group * g) % tile_cols / group),
                        scale[g], min[g], row_scale);
  }
}

/// 16-bit floats: one thread a lane's fragment of an mma, 16 bytes.
template <class Block>
__global__ void shuffle_floats_kernel(const __grid_constant__ ShuffleArgs args) {
  const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const std::int64_t col_tiles = args.weight.col_tiles, tile = index / 128;
  if (tile >= (args.n_rows + tile_rows - 1) / tile_rows * col_tiles) return;
  const int lane = static_cast<int>(index % 32), half = static_cast<int>(index % 128 / 64),
            m = static_cast<int>(index % 64 / 32);
  std::uint32_t a[4] = {};
  for (int i = 0; i < 8; ++i) {
    const int v = i % 4, row_half = i / 4;  // values 4 m + v of row g + 8 row_half
    const std::int64_t row = tile / col_tiles * tile_rows + lane / 4 + 8 * row_half;
    const std::int64_t column =
        tile % col_tiles * tile_cols + 32 * half + column_in_half<32>(lane % 4, 4 * m + v);
    if (row >= args.n_rows || column >= args.cols) continue;
    const std::uint32_t bits =
        reinterpret_cast<const Block*>(args.blocks + row * args.row_bytes)[column].bits;
    a[2 * (v / 2) + row_half] |= bits << (16 * (v % 2));
  }
  auto* codes = reinterpret_cast<uint4*>(const_cast<std::byte*>(args.weight.codes));
  codes[(args.first_row / tile_rows * col_tiles) * 128 + index] = {a[0], a[1], a[2], a[3]};
}

inline unsigned ctas(std::int64_t n, int each) {
  return static_cast<unsigned>((n + each - 1) / each);
}

template <class Block>
void shuffle(const ShuffleArgs& args, cudaStream_t stream) {
  row_scale_kernel<Block><<<ctas(args.n_rows, 8), 256, 0, stream>>>(args);
  if constexpr (Block::integer.bits > 0) {
    shuffle_kernel<Block><<<ctas(args.n_rows * (args.cols / Block::values), 128), 128, 0, stream>>>(args);
  } else {
    const std::int64_t row_tiles = (args.n_rows + tile_rows - 1) / tile_rows;
    shuffle_floats_kernel<Block>
        <<<ctas(row_tiles * args.weight.col_tiles * 128, 256), 256, 0, stream>>>(args);
  }
  check(cudaGetLastError(), "shuffle_kernel");
}

inline constexpr int exact_threads = 128;
inline constexpr int exact_tokens = 4;  // a CTA

/// One CTA a row and 4 tokens. Thread i adds up blocks i, i + 128, … in order; then threads are added.
template <class Block>
__global__ void __launch_bounds__(exact_threads) exact_kernel(const __grid_constant__ ExactArgs args) {
  __shared__ float sums[exact_tokens][exact_threads];
  const std::int64_t row = blockIdx.x, first_token = static_cast<std::int64_t>(blockIdx.y) * exact_tokens;
  const auto* blocks = reinterpret_cast<const Block*>(args.blocks + row * args.row_bytes);
  const int n = static_cast<int>(min(static_cast<std::int64_t>(exact_tokens), args.n_tokens - first_token));
  float acc[exact_tokens] = {};
  for (std::int64_t i = threadIdx.x; i < args.cols / Block::values; i += exact_threads) {
    float w[Block::values];
    decode_values(blocks[i], w);
    for (int t = 0; t < exact_tokens; ++t) {
      if (t >= n) break;
      const float* x = args.x + (first_token + t) * args.cols + i * Block::values;
      for (int k = 0; k < Block::values; ++k) acc[t] = __fmaf_rn(w[k], x[k], acc[t]);
    }
  }
  for (int t = 0; t < exact_tokens; ++t) sums[t][threadIdx.x] = acc[t];
  for (int step = exact_threads / 2; step > 0; step /= 2) {
    __syncthreads();
    if (threadIdx.x < step) {
      for (auto& sum : sums) sum[threadIdx.x] = __fadd_rn(sum[threadIdx.x], sum[threadIdx.x + step]);
    }
  }
  __syncthreads();  // the first thread wrote what the first n read
  if (threadIdx.x < n) args.out[(first_token + threadIdx.x) * args.rows + row] = sums[threadIdx.x][0];
}

template <class Block>
void exact(const ExactArgs& args, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(args.rows), ctas(args.n_tokens, exact_tokens));
  exact_kernel<Block><<<grid, exact_threads, 0, stream>>>(args);
  check(cudaGetLastError(), "exact_kernel");
}

/// Threads that decode a block: each decodes all of it, since blocks are not cut any finer, and writes its
/// share.
template <class Block>
constexpr int embed_lanes = Block::values == 1 ? 1 : 32;

template <class Block>
__global__ void embed_kernel(const __grid_constant__ EmbedArgs args) {
  constexpr int lanes = embed_lanes<Block>;
  const std::int64_t row_blocks = args.cols / Block::values;
  const std::int64_t index = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / lanes;
  if (index >= args.n * row_blocks) return;
  const std::int64_t i = index / row_blocks, block = index % row_blocks;
  float values[Block::values];
  decode_values(reinterpret_cast<const Block*>(args.blocks + args.ids[i] * args.row_bytes)[block], values);
  float* out = args.out + i * args.cols + block * Block::values;
  for (int k = threadIdx.x % lanes; k < Block::values; k += lanes) out[k] = values[k];
}

template <class Block>
void embed_rows(const EmbedArgs& args, cudaStream_t stream) {
  if (args.n == 0) return;
  const std::int64_t threads = args.n * (args.cols / Block::values) * embed_lanes<Block>;
  embed_kernel<Block><<<ctas(threads, 128), 128, 0, stream>>>(args);
  check(cudaGetLastError(), "embed_kernel");
}

template <class Block>
constexpr BlockKernels make_block_kernels(std::string_view name) {
  return {name, &tile_kernels<typename TileOfBlock<Block>::type>, &shuffle<Block>, &exact<Block>,
          &embed_rows<Block>};
}

}  // namespace cga::cuda
