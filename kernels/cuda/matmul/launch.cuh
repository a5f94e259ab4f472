// Launches of kernels that begin before the one before them on the stream has ended, where the device can
// (compute capability 9.0 and later). Such a kernel may load what no kernel writes (weights); it calls
// wait_for_previous() before it reads or writes anything else.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {

/// Returns when all kernels before this one are complete and their writes can be seen.
__device__ __forceinline__ void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the next kernel begin, once all CTAs of this one have got here.
__device__ __forceinline__ void let_next_begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/// @param kernel  calls wait_for_previous() and let_next_begin()
template <class... Params>
void launch_early(void (*kernel)(Params...), dim3 grid, int threads, std::size_t shared_bytes,
                  cudaStream_t stream, const std::type_identity_t<Params>&... params) {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  cudaLaunchAttribute overlap;
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  config.attrs = &overlap;
  // Code compiled for an older device has no instruction to wait with, even if it runs on a newer one.
  config.numAttrs = attributes.ptxVersion >= 90 ? 1 : 0;
  check(cudaLaunchKernelEx(&config, kernel, params...), "cudaLaunchKernelEx");
}

}  // namespace cga::cuda
