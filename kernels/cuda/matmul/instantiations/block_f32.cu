#include "kernels/cuda/matmul/block_kernels.cuh"
#include "quant/f32/decode.h"

namespace cga::cuda {

extern const BlockKernels f32_kernels;
constexpr BlockKernels f32_kernels = {"F32", nullptr, nullptr, &exact<BlockF32>, &embed_rows<BlockF32>};

}  // namespace cga::cuda
