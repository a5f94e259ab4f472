#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q4_0/decode.h"

namespace cga::cuda {

extern const BlockKernels q4_0_kernels;
constexpr BlockKernels q4_0_kernels = make_block_kernels<BlockQ4_0>("Q4_0");

}  // namespace cga::cuda
