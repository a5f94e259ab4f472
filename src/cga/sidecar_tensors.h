// Tensors of a sidecar, each checked for type, shape and values before anything reads it.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/half.h"
#include "format/refusal.h"
#include "format/safetensors.h"
#include "tensor/latent_layout.h"

namespace cga {

/// Takes the tensors whose names begin with a prefix out of a file, and checks them.
class SidecarTensors {
 public:
  using Shape = std::vector<std::int64_t>;

  SidecarTensors(const SafetensorsFile& file, std::string prefix) : file_(file), prefix_(std::move(prefix)) {}

  const Safetensor& find(std::string_view name) const {
    const Safetensor* tensor = file_.find(prefix_ + std::string(name));
    if (tensor == nullptr) fail(name, "nothing", "a tensor");
    return *tensor;
  }

  /// Size of the first dimension of a tensor of the given number of dimensions, a multiple of 64.
  std::int64_t components(std::string_view name, std::size_t n_dims, std::int64_t most) const {
    const Shape& shape = find(name).shape;
    const bool fits = shape.size() == n_dims && shape[0] % block_components == 0 && shape[0] <= most;
    if (!fits) {
      fail(name, "shape " + text_of(shape),
           std::to_string(n_dims) + " dimensions, the first a multiple of 64 up to " + std::to_string(most));
    }
    return shape[0];
  }

  /// Size of the first dimension of a tensor of the given number of dimensions.
  std::int64_t first_size(std::string_view name, std::size_t n_dims, std::int64_t most) const {
    const Shape& shape = find(name).shape;
    if (shape.size() != n_dims || shape[0] < 1 || shape[0] > most) {
      fail(name, "shape " + text_of(shape),
           std::to_string(n_dims) + " dimensions, the first from 1 to " + std::to_string(most));
    }
    return shape[0];
  }

  bool has(std::string_view name) const { return file_.find(prefix_ + std::string(name)) != nullptr; }

  template <class T>
  const T* values(std::string_view name, std::string_view dtype, const Shape& shape) const {
    const Safetensor& tensor = find(name);
    if (tensor.dtype != dtype || tensor.shape != shape) {
      fail(name, std::string(tensor.dtype) + " " + text_of(tensor.shape),
           std::string(dtype) + " " + text_of(shape));
    }
    // They are read in place, as the rest of the program would read an array of them.
    if (reinterpret_cast<std::uintptr_t>(tensor.data.data()) % alignof(T) != 0) {
      fail(name, "data that is not aligned", "an offset that is a multiple of " + std::to_string(alignof(T)));
    }
    return reinterpret_cast<const T*>(tensor.data.data());
  }

  /// Floats of which each, and the one before it, satisfy `fits`.
  template <class Fits>
  const float* floats(std::string_view name, std::int64_t n, std::string_view expected,
                      const Fits& fits) const {
    const auto* data = values<float>(name, "F32", {n});
    for (std::int64_t i = 0; i < n; ++i) {
      if (std::isfinite(data[i]) && fits(data[i], i > 0 ? data[i - 1] : data[i], i)) continue;
      fail(name, std::to_string(data[i]) + " at " + std::to_string(i), expected);
    }
    return data;
  }

  const std::uint16_t* halves(std::string_view name, const Shape& shape) const {
    const auto* data = values<std::uint16_t>(name, "F16", shape);
    // The sizes are those of a tensor that is in the file: their product has been checked.
    const auto n = std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    for (std::int64_t i = 0; i < n; ++i) {
      if ((data[i] & 0x7c00u) == 0x7c00u) {
        fail(name, std::to_string(f16_to_f32(data[i])) + " at " + std::to_string(i), "finite numbers");
      }
    }
    return data;
  }

 private:
  static std::string text_of(const Shape& shape) {
    std::string text;
    for (const std::int64_t size : shape) text += (text.empty() ? "[" : ", ") + std::to_string(size);
    return text.empty() ? "[]" : text + "]";
  }

  [[noreturn]] void fail(std::string_view name, const std::string& found, std::string_view expected) const {
    const std::string field = "tensor " + prefix_ + std::string(name);
    refuse(file_.path().string(), {field, found, expected, fetch_again});
  }

  const SafetensorsFile& file_;
  std::string prefix_;
};

}  // namespace cga
