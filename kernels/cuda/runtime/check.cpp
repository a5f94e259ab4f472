#include "kernels/cuda/runtime/check.h"

#include <string>

#include "cga/error.h"

namespace cga::cuda {
namespace {

constexpr const char* less_memory = "use a smaller context (-c), fewer sequences or a smaller model";

/// What the user can do about it.
const char* remedy(cudaError_t status) {
  switch (status) {
    case cudaErrorInsufficientDriver:
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorUnsupportedPtxVersion:
      return "install a newer NVIDIA driver, or use --device cpu";
    case cudaErrorNoDevice:
    case cudaErrorInvalidDevice:
    case cudaErrorDevicesUnavailable:
      return "see nvidia-smi for the devices that are there, or use --device cpu";
    default:
      return "the device can no longer be used by this process: start again, or use --device cpu";
  }
}

}  // namespace

void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  const std::string problem = std::string(what) + ": " + cudaGetErrorString(status);
  if (status == cudaErrorMemoryAllocation) throw Error(ErrorKind::memory, "CUDA", problem, less_memory);
  throw Error(ErrorKind::device, "CUDA", problem, remedy(status));
}

void check(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  const std::string problem = std::string(what) + ": " + cublasLtGetStatusString(status);
  if (status == CUBLAS_STATUS_ALLOC_FAILED) throw Error(ErrorKind::memory, "cuBLAS", problem, less_memory);
  throw Error(ErrorKind::device, "cuBLAS", problem, remedy(cudaErrorUnknown));
}

}  // namespace cga::cuda
