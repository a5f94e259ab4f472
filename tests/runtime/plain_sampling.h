// Sampling without any filter, for tests to switch on what they are about.
#pragma once

#include "cga/sampling.h"

namespace cga::test {

/// Everything off: a draw from the softmax itself.
inline SamplingOptions plain_sampling() {
  SamplingOptions options;
  options.temperature = 1.0f;
  options.top_k = 0;
  options.top_p = 1.0f;
  options.min_p = 0.0f;
  return options;
}

}  // namespace cga::test
