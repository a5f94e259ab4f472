// Where results arrive: pinned memory of the host, which copies reach at full speed and kernels can write to.
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
  /// Nothing that was asked for before may be in use. @return room for `bytes`, valid until the next call
  void* need(std::size_t bytes) {
    if (bytes <= size_) return data_;
    if (data_ != nullptr) cudaFreeHost(data_);
    data_ = nullptr, size_ = 0;
    check(cudaMallocHost(&data_, bytes), "pinned memory for results");
    size_ = bytes;
    return data_;
  }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cga::cuda
