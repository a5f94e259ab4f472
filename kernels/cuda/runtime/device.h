// The GPU in use: which one, what it is, and how much of its memory may be taken.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

#include "backend/backend.h"
#include "kernels/cuda/matmul/device_array.h"

namespace cga::cuda {

/// Whether the first device is one that this build runs on; false also without a driver.
bool has_usable_device();

/// Makes a device current and gives out its memory, never more than the limit.
class Device final : public DeviceAllocator {
 public:
  /// @param limit  bytes; 0: no limit but the device's own
  /// @throws Error (device) if there is no such device, or its compute capability is below 8.0
  Device(int ordinal, std::int64_t limit);

  std::string description() const;  ///< "CUDA, NVIDIA H100 80GB HBM3, 79 GiB"
  DeviceMemory memory() const;

  /// @throws Error (memory) with what is needed and what is there
  void* allocate(std::size_t bytes, const char* purpose) override;
  void free(void* memory) override;

 private:
  cudaDeviceProp properties_{};
  std::int64_t limit_;
  std::int64_t used_ = 0;                         // of it, by this object
  std::unordered_map<void*, std::size_t> sizes_;  // of what was allocated
};

/// @throws Error (memory)
std::unique_ptr<Buffer> allocate_device(Device& device, std::size_t bytes, std::string_view purpose);

}  // namespace cga::cuda
