// F16: IEEE 754 binary16. A block is one value.
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockF16 {
  static constexpr int values = 1;
  static constexpr IntegerForm integer{};

  std::uint16_t bits;
};
static_assert(sizeof(BlockF16) == 2);

}  // namespace cga
