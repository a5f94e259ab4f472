// Host memory for the CPU backends: aligned to pages, zeroed by the system, committed only when touched.
#pragma once

#include <memory>
#include <string_view>

#include "backend/backend.h"

namespace cga {

/// @throws Error (memory) naming the bytes and `purpose`
std::unique_ptr<Buffer> allocate_host(std::size_t bytes, std::string_view purpose);

}  // namespace cga
