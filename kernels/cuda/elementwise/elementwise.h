// The small ops of the CUDA backend. All pointers are device memory; each call starts one kernel.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/ops.h"

namespace cga::cuda {

// Shapes as in kernels/ops.h.
void rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
              std::int64_t dim, cudaStream_t stream);
/// @param positions  [n_tokens]
/// @param inverse_frequency  [half]
void rope_angles(float* cos_sin, const std::int32_t* positions, std::int64_t n_tokens,
                 const float* inverse_frequency, std::int64_t half, float magnitude, cudaStream_t stream);
void rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens, std::int32_t n_heads,
          std::int32_t head_dim, cudaStream_t stream);
void swiglu(float* out, const float* gate, const float* up, std::int64_t n, cudaStream_t stream);
void add(float* x, const float* y, std::int64_t n, cudaStream_t stream);
/// @param rows  [n_rows]
void gather(float* out, const float* x, const std::int32_t* rows, std::int64_t n_rows, std::int64_t dim,
            cudaStream_t stream);
/// Reads memory as fast as it can be read, for measuring.  sink: [1]
void read_all(const void* data, std::size_t bytes, unsigned* sink, cudaStream_t stream);

}  // namespace cga::cuda
