#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q8_0/decode.h"

namespace cga::cuda {

extern const BlockKernels q8_0_kernels;
constexpr BlockKernels q8_0_kernels = make_block_kernels<BlockQ8_0>("Q8_0");

}  // namespace cga::cuda
