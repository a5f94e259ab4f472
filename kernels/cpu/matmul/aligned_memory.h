// Memory for SIMD: aligned, not zeroed, and in large pages where the system has them, because a product
// reads every byte of it in order.
#pragma once

#include <cstddef>
#include <memory>

namespace cga::cpu {

class AlignedMemory {
 public:
  AlignedMemory() = default;
  /// @throws std::bad_alloc
  explicit AlignedMemory(std::size_t bytes);

  std::byte* data() const { return data_.get(); }
  std::size_t size() const { return size_; }

  /// Makes room for `bytes`; the contents are lost if it has to grow. @throws std::bad_alloc
  void reserve(std::size_t bytes) {
    if (bytes > size_) *this = AlignedMemory(bytes);
  }

 private:
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::unique_ptr<std::byte, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace cga::cpu
