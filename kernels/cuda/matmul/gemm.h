// Products of f16 matrices by cuBLASLt.
#pragma once

#include <cuda_fp16.h>

#include "kernels/cuda/matmul/matmul.h"

namespace cga::cuda {

struct GemmArgs {
  const __half* weights = nullptr;  // [rows, cols]
  const __half* x = nullptr;        // [n_tokens, cols]
  float* out = nullptr;             // [n_tokens, rows]
  std::int64_t n_tokens = 0, rows = 0, cols = 0;
  std::byte* workspace = nullptr;  // [gemm_workspace_bytes]
};

/// out = x · weightsᵀ, sums in f32.
void gemm(const GemmArgs& args, GemmPlans& plans, cudaStream_t stream);

}  // namespace cga::cuda
