// The scalar backend: host memory and the reference ops.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace cga::reference {

std::unique_ptr<Backend> make_backend();

}  // namespace cga::reference
