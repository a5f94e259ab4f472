#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q5_1/decode.h"

namespace cga::cuda {

extern const BlockKernels q5_1_kernels;
constexpr BlockKernels q5_1_kernels = make_block_kernels<BlockQ5_1>("Q5_1");

}  // namespace cga::cuda
