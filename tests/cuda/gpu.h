// Tests that need a GPU. Where there is none they say so, and ctest counts the program as skipped.
#pragma once

#include <iostream>
#include <memory>

#include "backend/backend.h"
#include "cga/error.h"

namespace cga::test {

/// @return null, said aloud, where this machine has no CUDA device
inline std::unique_ptr<Backend> gpu(bool exact = false) {
  try {
    return make_backend(BackendOptions{.device = "cuda", .exact = exact});
  } catch (const Error& error) {
    std::cout << "SKIPPED, no CUDA device: " << error.what() << "\n";
    return nullptr;
  }
}

}  // namespace cga::test
