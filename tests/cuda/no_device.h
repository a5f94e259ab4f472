// For test programs without a framework: whether there is nothing to run on.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdio>

namespace cga::test {

/// @return true, said aloud, where this machine has no CUDA device
inline bool has_no_device() {
  int n = 0;
  if (cudaGetDeviceCount(&n) == cudaSuccess && n > 0) return false;
  std::puts("SKIPPED, no CUDA device");
  return true;
}

}  // namespace cga::test
