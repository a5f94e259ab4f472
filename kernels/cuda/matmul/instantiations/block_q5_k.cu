#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q5_k/decode.h"

namespace cga::cuda {

extern const BlockKernels q5_k_kernels;
constexpr BlockKernels q5_k_kernels = make_block_kernels<BlockQ5_K>("Q5_K");

}  // namespace cga::cuda
