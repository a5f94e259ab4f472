// A backend: memory of a device, and the ops that work on it. Peers behind one interface.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace cga {

class Ops;

/// Device memory, zeroed. Pages of it that are never touched cost nothing on the CPU.
class Buffer {
 public:
  virtual ~Buffer() = default;
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 protected:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;    ///< "cpu", "scalar"
  virtual std::string description() const = 0;  ///< "CPU, AVX2, 2 threads"
  virtual Ops& ops() = 0;
  /// @throws Error (memory) naming the bytes and `purpose`
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes, std::string_view purpose) = 0;
  virtual int n_threads() const = 0;
  /// Sums `bytes` of device memory with all threads, for measuring bandwidth. @return seconds taken
  virtual double time_read(const std::byte* data, std::size_t bytes) = 0;
};

/// @param device     auto | cpu | scalar
/// @param n_threads  0: all cores
/// @throws Error (device) for a device this build or machine does not have
std::unique_ptr<Backend> make_backend(std::string_view device, int n_threads);

}  // namespace cga
