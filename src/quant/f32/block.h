// F32: plain floats. A block is one value.
#pragma once

#include "quant/weight_type.h"

namespace cga {

struct BlockF32 {
  static constexpr int values = 1;
  static constexpr IntegerForm integer{};

  float value;
};
static_assert(sizeof(BlockF32) == 4);

}  // namespace cga
