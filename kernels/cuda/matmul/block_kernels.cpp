// The list of block types with kernels.
#include "kernels/cuda/matmul/kernels.h"

namespace cga::cuda {

extern const BlockKernels f32_kernels, f16_kernels, bf16_kernels, q4_0_kernels, q4_1_kernels, q5_0_kernels,
    q5_1_kernels, q8_0_kernels, q4_k_kernels, q5_k_kernels, q6_k_kernels;

const BlockKernels* find_block_kernels(std::string_view name) {
  for (const BlockKernels* kernels :
       {&f32_kernels, &f16_kernels, &bf16_kernels, &q4_0_kernels, &q4_1_kernels, &q5_0_kernels, &q5_1_kernels,
        &q8_0_kernels, &q4_k_kernels, &q5_k_kernels, &q6_k_kernels}) {
    if (kernels->name == name) return kernels;
  }
  return nullptr;
}

}  // namespace cga::cuda
