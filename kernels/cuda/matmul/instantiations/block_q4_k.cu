#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/q4_k/decode.h"

namespace cga::cuda {

extern const BlockKernels q4_k_kernels;
constexpr BlockKernels q4_k_kernels = make_block_kernels<BlockQ4_K>("Q4_K");

}  // namespace cga::cuda
