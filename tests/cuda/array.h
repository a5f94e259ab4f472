// Arrays in a backend's memory, whichever it is.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace cga::test {

/// An array in a backend's memory.
template <class T>
class Array {
 public:
  Array(Backend& backend, const std::vector<T>& values)
      : backend_(backend), n_(values.size()), buffer_(backend.allocate(n_ * sizeof(T) + 16, "test")) {
    set(values);
  }
  /// @param values  as many as before
  void set(const std::vector<T>& values) const {
    if (n_ > 0) backend_.write(at(), values.data(), n_ * sizeof(T));
  }
  T* at() const { return buffer_->template as<T>(); }
  std::vector<T> values() const {
    if (n_ == 0) return {};
    const auto* first = static_cast<const T*>(backend_.read(at(), n_ * sizeof(T)));
    return {first, first + n_};
  }

 private:
  Backend& backend_;
  std::size_t n_;
  std::unique_ptr<Buffer> buffer_;
};

}  // namespace cga::test
