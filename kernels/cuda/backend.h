// The CUDA backend: one device, one stream.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace cga::cuda {

/// Whether this machine's first device, and its driver, are some that this build can use.
bool has_device();

/// @param ordinal       of the device
/// @param memory_limit  bytes; 0: none
/// @param exact         products in f32
/// @throws Error (device, memory)
std::unique_ptr<Backend> make_backend(int ordinal, std::int64_t memory_limit, bool exact);

}  // namespace cga::cuda
