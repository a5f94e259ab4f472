// The CPU backend: host memory, a thread pool, and SIMD ops chosen for the processor at run time.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace cga::cpu {

/// @param n_threads  at least 1
std::unique_ptr<Backend> make_backend(int n_threads);

}  // namespace cga::cpu
