#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q6_k/decode.h"

namespace cga::cuda {

extern const BlockKernels q6_k_kernels;
constexpr BlockKernels q6_k_kernels = make_block_kernels<BlockQ6_K>("Q6_K");

}  // namespace cga::cuda
