// What is compiled once for each block type of files, and once for each tile type they turn into.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <string_view>
#include <type_traits>

#include "kernels/cuda/matmul/decode.h"
#include "kernels/cuda/matmul/integer_plan.h"
#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {

/// Some rows of a tiled matrix as f16, divided by their row_scale.
struct DequantiseArgs {
  TileArrays weight;
  std::int64_t first_row = 0, n_rows = 0;  // n_rows a multiple of 16, first_row too
  __half* out = nullptr;                   // [n_rows, 64 * col_tiles]
};

struct TileKernels {
  int code_bytes, plane_bytes, numbers_bytes;  // a tile
  int planes, group;                           // of activations
  int step;                                    // tiles together
  bool has_min;
  // One of the two is null: products are of 16-bit floats, or of integers.
  void (*decode)(const DecodeArgs& args, const DecodePlan& plan, cudaStream_t stream);
  void (*decode_integers)(const DecodeArgs& args, const IntegerPlan& plan, cudaStream_t stream);
  void (*dequantise)(const DequantiseArgs& args, cudaStream_t stream);
};

/// The one table of a tile type; defined where instantiations/ names it.
template <class Tile>
const TileKernels* tile_kernels();

/// Rows of blocks in device memory, and where they go in a tiled matrix.
struct ShuffleArgs {
  const std::byte* blocks = nullptr;       // [n_rows, row_bytes]
  std::int64_t first_row = 0, n_rows = 0;  // first_row a multiple of 16
  std::int64_t cols = 0, row_bytes = 0;
  TileArrays weight;  // zero before
};

/// x times a matrix of blocks, as f32 without any rounding before.
struct ExactArgs {
  const std::byte* blocks = nullptr;  // [rows, row_bytes]
  std::int64_t rows = 0, cols = 0, row_bytes = 0;
  const float* x = nullptr;  // [n_tokens, cols]
  std::int64_t n_tokens = 0;
  float* out = nullptr;  // [n_tokens, rows]
};

struct EmbedArgs {
  const std::byte* blocks = nullptr;  // [n_vocab, row_bytes]
  std::int64_t cols = 0, row_bytes = 0;
  const std::int32_t* ids = nullptr;  // [n]
  std::int64_t n = 0;
  float* out = nullptr;  // [n, cols]
};

struct BlockKernels {
  std::string_view name;         // of the WeightType
  const TileKernels* (*tile)();  // null: never tiled (F32)
  void (*shuffle)(const ShuffleArgs& args, cudaStream_t stream);
  void (*exact)(const ExactArgs& args, cudaStream_t stream);
  void (*embed)(const EmbedArgs& args, cudaStream_t stream);
};

/// @return nullptr for a type without kernels
const BlockKernels* find_block_kernels(std::string_view name);

}  // namespace cga::cuda
