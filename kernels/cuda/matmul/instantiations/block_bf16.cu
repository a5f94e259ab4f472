#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/bf16/decode.h"

namespace cga::cuda {

template <>
struct TileOfBlock<BlockBF16> {
  using type = FloatTile<BF16>;
};

extern const BlockKernels bf16_kernels;
constexpr BlockKernels bf16_kernels = make_block_kernels<BlockBF16>("BF16");

}  // namespace cga::cuda
