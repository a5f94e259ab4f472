#include "kernels/cuda/runtime/device.h"

#include <algorithm>

#include "cga/error.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr std::size_t alignment = 256;
constexpr int least_major = 8;  // compute capability: tensor cores for bf16, asynchronous copies

std::size_t rounded(std::size_t bytes) {
  return (std::max<std::size_t>(bytes, 1) + alignment - 1) / alignment * alignment;
}

}  // namespace

bool has_usable_device() {
  int n = 0, major = 0;
  if (cudaGetDeviceCount(&n) != cudaSuccess || n == 0) return false;
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess &&
         major >= least_major;
}

Device::Device(int ordinal, std::int64_t limit) : limit_(limit) {
  int n = 0;
  const std::string option = "--device cuda:" + std::to_string(ordinal);
  check(cudaGetDeviceCount(&n), option);
  if (ordinal >= n) {
    throw Error(ErrorKind::device, option, "there are " + std::to_string(n) + " CUDA devices",
                "use cuda:0 to cuda:" + std::to_string(n - 1));
  }
  check(cudaSetDevice(ordinal), "choosing the device");
  check(cudaGetDeviceProperties(&properties_, ordinal), "reading what the device is");
  if (properties_.major < least_major) {
    throw Error(ErrorKind::device, option,
                std::string(properties_.name) + " has compute capability " +
                    std::to_string(properties_.major) + "." + std::to_string(properties_.minor) +
                    ", expected at least 8.0",
                "use --device cpu");
  }
}

std::string Device::description() const {
  constexpr std::size_t gib = std::size_t{1} << 30;
  return "CUDA, " + std::string(properties_.name) + ", " + std::to_string(properties_.totalGlobalMem / gib) +
         " GiB";
}

DeviceMemory Device::memory() const {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "reading how much memory is free");
  DeviceMemory memory{static_cast<std::int64_t>(total), static_cast<std::int64_t>(free)};
  if (limit_ > 0) {
    memory.total = std::min(memory.total, limit_);
    memory.available = std::min(memory.available, limit_ - used_);
  }
  return memory;
}

void* Device::allocate(std::size_t bytes, const char* purpose) {
  const std::size_t size = rounded(bytes);
  const DeviceMemory there = memory();
  void* data = nullptr;
  cudaError_t status = cudaErrorMemoryAllocation;
  if (static_cast<std::int64_t>(size) <= there.available) status = cudaMalloc(&data, size);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // it is not sticky: the device can still be used
    throw Error(ErrorKind::memory, purpose,
                std::to_string(bytes) + " bytes of device memory are needed, there are " +
                    std::to_string(there.available),
                "use a smaller context (-c), fewer sequences, a smaller model or a higher --memory-limit");
  }
  check(status, purpose);
  sizes_.emplace(data, size);
  used_ += static_cast<std::int64_t>(size);
  return data;
}

void Device::free(void* memory) {
  const auto block = sizes_.find(memory);
  if (block == sizes_.end()) return;
  used_ -= static_cast<std::int64_t>(block->second);
  sizes_.erase(block);
  cudaFree(memory);  // fails only if something failed before, which was reported
}

namespace {

class DeviceBuffer final : public Buffer {
 public:
  DeviceBuffer(Device& device, std::size_t bytes, const std::string& purpose)
      : memory_(device, bytes, purpose.c_str()) {
    data_ = memory_.data();
    size_ = bytes;
    check(cudaMemset(data_, 0, bytes), "clearing memory");
    check(cudaDeviceSynchronize(), "clearing memory");  // kernels run in a stream that would not wait for it
  }

 private:
  DeviceArray memory_;
};

}  // namespace

std::unique_ptr<Buffer> allocate_device(Device& device, std::size_t bytes, std::string_view purpose) {
  return std::make_unique<DeviceBuffer>(device, bytes, std::string(purpose));
}

}  // namespace cga::cuda
