// What surrounds a product where it is not fused into it.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/matmul/matmul.h"

namespace cga::cuda {

/// out = RMS-normalised x.  x, out: [n_tokens, cols].
void normalise(float* out, const float* x, const float* norm, float eps, std::int64_t n_tokens,
               std::int64_t cols, cudaStream_t stream);

/// x, normalised if there is a norm, as f16 divided by a power of two a row.
struct HalvesArgs {
  const float* x = nullptr;     // [n_tokens, cols]
  const float* norm = nullptr;  // [cols] or null
  float eps = 0;
  std::int64_t n_tokens = 0, cols = 0, padded_cols = 0;
  __half* out = nullptr;    // [n_tokens, padded_cols]
  float* scales = nullptr;  // [n_tokens]
};

void convert_to_halves(const HalvesArgs& args, cudaStream_t stream);

/// One product on its way out: value = product * row_scale * token_scale + bias.
struct Product {
  const float* values = nullptr;     // [n_tokens, stride]
  const float* row_scale = nullptr;  // [rows] or null
  const float* bias = nullptr;       // [rows] or null
};

struct EpilogueArgs {
  Product products[2];                 // the second for swiglu only, which is {gate, up}
  const float* token_scale = nullptr;  // [n_tokens] or null
  std::int64_t stride = 0;
  std::int64_t n_tokens = 0, rows = 0;
  float* out = nullptr;  // [n_tokens, out_stride]
  std::int64_t out_stride = 0;
  Epilogue epilogue = Epilogue::store;
};

void apply_epilogue(const EpilogueArgs& args, cudaStream_t stream);

}  // namespace cga::cuda
