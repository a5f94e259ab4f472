// CUDA calls report failure by a status; the library reports it by Error.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <string_view>

namespace cga::cuda {

/// @param what  the call, for the message
/// @throws Error (memory if an allocation failed, else device)
void check(cudaError_t status, std::string_view what);
void check(cublasStatus_t status, std::string_view what);

}  // namespace cga::cuda
