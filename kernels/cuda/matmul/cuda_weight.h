// Weights on the device: in tiles for fast products, or as the file's blocks for look-ups and exact products.
#pragma once

#include "kernels/cuda/matmul/device_array.h"
#include "kernels/cuda/matmul/tile.h"
#include "kernels/ops.h"

namespace cga::cuda {

struct BlockKernels;

class CudaWeight : public PreparedWeight {
 public:
  const BlockKernels* kernels = nullptr;
  DeviceArray memory;
  const std::byte* blocks = nullptr;  // [rows, row_bytes]: the file's blocks; null if in tiles
  TileArrays tiles;
};

}  // namespace cga::cuda
