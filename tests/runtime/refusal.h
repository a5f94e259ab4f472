// Why an engine is not made from some options.
#pragma once

#include <string>

#include "cga/engine.h"

namespace cga::test {

/// @return "accepted" if it is
inline std::string refusal_of(const EngineOptions& options) {
  try {
    Engine refusing(options);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

}  // namespace cga::test
