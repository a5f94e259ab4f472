#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q4_1/decode.h"

namespace cga::cuda {

extern const BlockKernels q4_1_kernels;
constexpr BlockKernels q4_1_kernels = make_block_kernels<BlockQ4_1>("Q4_1");

}  // namespace cga::cuda
