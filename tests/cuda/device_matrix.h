// What tests and benchmarks of the CUDA kernels share: device memory and random matrices of any type.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "kernels/cuda/matmul/device_array.h"
#include "kernels/cuda/runtime/check.h"
#include "tensor/weight_view.h"

namespace cga::test {

class PlainAllocator : public cuda::DeviceAllocator {
 public:
  void* allocate(std::size_t bytes, const char* purpose) override {
    void* memory = nullptr;
    cuda::check(cudaMalloc(&memory, bytes), purpose);
    return memory;
  }
  void free(void* memory) override { cudaFree(memory); }
};

/// An array on the device, with copies to and fro.
template <class T>
class DeviceVector {
 public:
  DeviceVector(DeviceVector&&) = default;
  DeviceVector(cuda::DeviceAllocator& allocator, std::size_t n)
      : array_(allocator, n * sizeof(T), "a test"), n_(n) {}
  DeviceVector(cuda::DeviceAllocator& allocator, const std::vector<T>& values)
      : DeviceVector(allocator, values.size()) {
    set(values);
  }

  T* data() const { return reinterpret_cast<T*>(array_.data()); }
  void set(const std::vector<T>& values) {
    cuda::check(cudaMemcpy(data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
                "copy in");
  }
  std::vector<T> get() const {
    std::vector<T> values(n_);
    cuda::check(cudaDeviceSynchronize(), "kernels");
    cuda::check(cudaMemcpy(values.data(), data(), n_ * sizeof(T), cudaMemcpyDeviceToHost), "copy out");
    return values;
  }

 private:
  cuda::DeviceArray array_;
  std::size_t n_;
};

/// A matrix of blocks that owns its bytes.
struct HostMatrix {
  std::vector<std::byte> bytes;
  WeightView view;

  HostMatrix(const WeightType& type, std::int64_t rows, std::int64_t cols)
      : bytes(static_cast<std::size_t>(rows * type.row_bytes(cols))) {
    view = {std::string(type.name), &type, rows, cols, bytes.data()};
  }
};

/// Where a block type keeps its f16 numbers.
inline std::vector<int> f16_offsets(const WeightType& type) {
  if (type.name == "Q6_K") return {type.block_bytes - 2};
  if (type.integer.has_min) return {0, 2};
  return {0};
}

/// Random codes under random scales of about `scale`; of float types, normal values of that deviation.
inline HostMatrix random_blocks(const WeightType& type, std::int64_t rows, std::int64_t cols, float scale,
                                std::mt19937& random) {
  HostMatrix matrix(type, rows, cols);
  if (type.integer.bits == 0) {
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> values(static_cast<std::size_t>(rows * cols));
    for (float& value : values) value = normal(random);
    type.encode(values.data(), rows * cols, matrix.bytes.data());
    return matrix;
  }
  for (std::size_t i = 0; i + 4 <= matrix.bytes.size(); i += 4) {
    const auto word = static_cast<std::uint32_t>(random());
    std::memcpy(matrix.bytes.data() + i, &word, 4);
  }
  std::uniform_real_distribution<float> factor(0.25f, 1.0f);
  for (std::size_t block = 0; block < matrix.bytes.size();
       block += static_cast<std::size_t>(type.block_bytes)) {
    for (const int offset : f16_offsets(type)) {
      const std::uint16_t half = f32_to_f16(scale * factor(random));
      std::memcpy(matrix.bytes.data() + block + offset, &half, 2);
    }
  }
  return matrix;
}

}  // namespace cga::test
