// Device memory as a value, for tests and benchmarks.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

#include "kernels/cuda/runtime/check.h"

namespace cga::test {

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t n, int fill = 0) : n_(n) {
    if (n == 0) return;
    cuda::check(cudaMalloc(&data_, n * sizeof(T)), "test memory");
    cuda::check(cudaMemset(data_, fill, n * sizeof(T)), "test memory");
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) { put(values); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  T* data() const { return data_; }
  std::size_t size() const { return n_; }
  void put(const std::vector<T>& values) const {
    cuda::check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "put");
  }
  std::vector<T> get() const {
    std::vector<T> values(n_);
    cuda::check(cudaMemcpy(values.data(), data_, n_ * sizeof(T), cudaMemcpyDeviceToHost), "get");
    return values;
  }

 private:
  T* data_ = nullptr;
  std::size_t n_;
};

}  // namespace cga::test
