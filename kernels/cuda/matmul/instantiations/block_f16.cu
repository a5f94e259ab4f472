#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/f16/decode.h"

namespace cga::cuda {

template <>
struct TileOfBlock<BlockF16> {
  using type = FloatTile<F16>;
};

extern const BlockKernels f16_kernels;
constexpr BlockKernels f16_kernels = make_block_kernels<BlockF16>("F16");

}  // namespace cga::cuda
