#include "kernels/cuda/runtime/check.h"

#include <string>

#include "cga/error.h"

namespace cga::cuda {

void check(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  const ErrorKind kind = status == cudaErrorMemoryAllocation ? ErrorKind::memory : ErrorKind::device;
  throw Error(kind, "CUDA", std::string(what) + ": " + cudaGetErrorString(status));
}

void check(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw Error(ErrorKind::device, "cuBLAS", std::string(what) + ": " + cublasLtGetStatusString(status));
}

}  // namespace cga::cuda
