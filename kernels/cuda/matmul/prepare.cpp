// From matrices in a file to matrices on the device.
#include <algorithm>
#include <string>

#include "cga/error.h"
#include "kernels/cuda/matmul/cuda_weight.h"
#include "kernels/cuda/matmul/kernels.h"
#include "kernels/cuda/matmul/matmul.h"
#include "kernels/cuda/matmul/plan.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

// Blocks on their way to be rearranged. Small beside any matrix worth rearranging, and large enough that
// copies run at the speed of the bus.
constexpr std::int64_t staging_bytes = 32 << 20;

const BlockKernels& kernels_for(const WeightView& weight) {
  if (weight.cols > max_cols) {
    throw Error(ErrorKind::bad_file, weight.name,
                "found " + std::to_string(weight.cols) + " columns, expected at most " +
                    std::to_string(max_cols) + " on a CUDA device",
                "use --device cpu");
  }
  const BlockKernels* kernels = find_block_kernels(weight.type->name);
  if (kernels != nullptr) return *kernels;
  throw Error(ErrorKind::bad_file, weight.name,
              "type " + std::string(weight.type->name) + " has no CUDA kernels");
}

/// Sizes of a tiled matrix's arrays, in the order they lie in memory.
struct TiledSizes {
  std::int64_t col_tiles, codes, plane, numbers, row_scale;

  std::int64_t total() const { return codes + plane + numbers + row_scale; }
};

TiledSizes tiled_sizes(const TileKernels& tile, const WeightView& weight) {
  const std::int64_t row_tiles = round_up(weight.rows, tile_rows) / tile_rows;
  const std::int64_t col_tiles = round_up(weight.cols, tile_cols) / tile_cols, tiles = row_tiles * col_tiles;
  return {col_tiles, round_up(tiles * tile.code_bytes, 256), round_up(tiles * tile.plane_bytes, 256),
          round_up(tiles * tile.numbers_bytes, 256), row_tiles * tile_rows * 4};
}

std::unique_ptr<CudaWeight> make_weight(const WeightView& view, const BlockKernels& kernels,
                                        std::int64_t bytes) {
  auto weight = std::make_unique<CudaWeight>();
  weight->rows = view.rows;
  weight->cols = view.cols;
  weight->bytes = bytes;
  weight->kernels = &kernels;
  return weight;
}

/// Copies rows to staging memory, a part at a time, and rearranges them from there.
void shuffle_rows(const WeightView& view, const CudaWeight& weight, DeviceAllocator& allocator,
                  cudaStream_t stream) {
  const std::int64_t row_bytes = view.row_bytes();
  const std::int64_t most =
      std::max<std::int64_t>(tile_rows, staging_bytes / row_bytes / tile_rows * tile_rows);
  const std::int64_t part = std::min(most, round_up(view.rows, tile_rows));
  const DeviceArray staging(allocator, static_cast<std::size_t>(part * row_bytes), "blocks being rearranged");
  for (std::int64_t row = 0; row < view.rows; row += part) {
    const std::int64_t n = std::min(part, view.rows - row);
    check(cudaMemcpyAsync(staging.data(), view.row(row), static_cast<std::size_t>(n * row_bytes),
                          cudaMemcpyHostToDevice, stream),
          "copying weights");
    weight.kernels->shuffle({staging.data(), row, n, view.cols, row_bytes, weight.tiles}, stream);
  }
  check(cudaStreamSynchronize(stream), "rearranging weights");
}

}  // namespace

std::unique_ptr<PreparedWeight> prepare_weight(DeviceAllocator& allocator, cudaStream_t stream,
                                               const WeightView& view) {
  const BlockKernels& kernels = kernels_for(view);
  if (kernels.tile == nullptr) return prepare_table(allocator, stream, view);
  const TiledSizes sizes = tiled_sizes(*kernels.tile(), view);
  auto weight = make_weight(view, kernels, sizes.total());
  const auto bytes = static_cast<std::size_t>(sizes.total());
  weight->memory = DeviceArray(allocator, bytes, "weights");
  std::byte* at = weight->memory.data();
  weight->tiles = {at, at + sizes.codes, at + sizes.codes + sizes.plane,
                   reinterpret_cast<const float*>(at + sizes.codes + sizes.plane + sizes.numbers),
                   sizes.col_tiles};
  check(cudaMemsetAsync(at, 0, bytes, stream), "clearing weights");
  shuffle_rows(view, *weight, allocator, stream);
  return weight;
}

std::unique_ptr<PreparedWeight> prepare_table(DeviceAllocator& allocator, cudaStream_t stream,
                                              const WeightView& view) {
  auto weight = make_weight(view, kernels_for(view), view.bytes());
  const auto bytes = static_cast<std::size_t>(view.bytes());
  weight->memory = DeviceArray(allocator, bytes, "weights");
  weight->blocks = weight->memory.data();
  check(cudaMemcpyAsync(weight->memory.data(), view.data, bytes, cudaMemcpyHostToDevice, stream),
        "copying weights");
  check(cudaStreamSynchronize(stream), "copying weights");
  return weight;
}

std::int64_t prepared_weight_bytes(const WeightView& view) {
  const BlockKernels& kernels = kernels_for(view);
  return kernels.tile == nullptr ? view.bytes() : tiled_sizes(*kernels.tile(), view).total();
}

std::int64_t prepared_table_bytes(const WeightView& view) {
  return view.bytes();
}

}  // namespace cga::cuda
