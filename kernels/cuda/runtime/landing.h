// Where results land: pinned host memory that grows, so that copies from the device need no staging.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {

class Landing {
 public:
  Landing() = default;
  Landing(const Landing&) = delete;
  Landing& operator=(const Landing&) = delete;
  ~Landing() {
    if (data_ != nullptr) cudaFreeHost(data_);
  }

  /// What a stream has written so far, copied from the device. Waits for the stream.
  /// @return good until the next call
  const void* fetch(const void* from, std::size_t bytes, cudaStream_t stream) {
    need(bytes);
    check(cudaMemcpyAsync(data_, from, bytes, cudaMemcpyDeviceToHost, stream), "reading from the device");
    check(cudaStreamSynchronize(stream), "reading from the device");
    return data_;
  }

 private:
  void need(std::size_t bytes) {
    if (bytes <= size_) return;
    if (data_ != nullptr) cudaFreeHost(data_);
    data_ = nullptr, size_ = 0;
    check(cudaMallocHost(&data_, bytes), "pinned memory for results");
    size_ = bytes;
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cga::cuda
