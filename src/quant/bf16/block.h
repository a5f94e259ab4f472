// BF16: the upper half of binary32. A block is one value.
#pragma once

#include <cstdint>

#include "quant/weight_type.h"

namespace cga {

struct BlockBF16 {
  static constexpr int values = 1;
  static constexpr IntegerForm integer{};

  std::uint16_t bits;
};
static_assert(sizeof(BlockBF16) == 2);

}  // namespace cga
