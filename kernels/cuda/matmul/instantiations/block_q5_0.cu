#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q5_0/decode.h"

namespace cga::cuda {

extern const BlockKernels q5_0_kernels;
constexpr BlockKernels q5_0_kernels = make_block_kernels<BlockQ5_0>("Q5_0");

}  // namespace cga::cuda
