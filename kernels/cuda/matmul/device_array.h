// Device memory with an owner.
#pragma once

#include <cstddef>
#include <utility>

namespace cga::cuda {

/// Where device memory comes from. Outlives what it allocated.
class DeviceAllocator {
 public:
  virtual ~DeviceAllocator() = default;
  /// @return at least 256-byte aligned
  /// @throws Error (memory) that names the purpose
  virtual void* allocate(std::size_t bytes, const char* purpose) = 0;
  virtual void free(void* memory) = 0;
};

class DeviceArray {
 public:
  DeviceArray() = default;
  DeviceArray(DeviceAllocator& allocator, std::size_t bytes, const char* purpose)
      : allocator_(&allocator), data_(allocator.allocate(bytes, purpose)), bytes_(bytes) {}
  DeviceArray(DeviceArray&& other) noexcept
      : allocator_(other.allocator_), data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  DeviceArray& operator=(DeviceArray&& other) noexcept {
    std::swap(allocator_, other.allocator_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  ~DeviceArray() {
    if (data_ != nullptr) allocator_->free(data_);
  }

  std::byte* data() const { return static_cast<std::byte*>(data_); }
  std::size_t bytes() const { return bytes_; }

 private:
  DeviceAllocator* allocator_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace cga::cuda
