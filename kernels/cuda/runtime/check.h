// CUDA's error codes as the library's exception.
#pragma once

#include <cuda_runtime_api.h>

#include <string>
#include <string_view>

#include "cga/error.h"

namespace cga::cuda {

/// @param what  names the call or the launch that returned `code`
inline void check(cudaError_t code, std::string_view what) {
  if (code != cudaSuccess) throw Error(ErrorKind::device, what, cudaGetErrorString(code));
}

}  // namespace cga::cuda
