// Memory that steps need and batches make grow.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "backend/backend.h"
#include "base/checked.h"

namespace cga {

/// Room for n floats, whose values are then unspecified.
inline float* reserve(Backend& backend, std::unique_ptr<Buffer>& buffer, std::int64_t n,
                      std::string_view purpose) {
  // In pieces: memory of a device is slow to take, and what steps need grows with the context.
  const std::size_t bytes = static_cast<std::size_t>(round_up(n, std::int64_t{16384})) * sizeof(float);
  if (!buffer || buffer->size() < bytes) {
    buffer.reset();
    buffer = backend.allocate(bytes, purpose);
  }
  return buffer->as<float>();
}

}  // namespace cga
