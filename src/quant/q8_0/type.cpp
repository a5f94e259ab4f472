// Q8_0 as a weight type.
#include "quant/block_type.h"
#include "quant/q8_0/decode.h"

namespace cga {

const WeightType& weight_type_q8_0() {
  static constexpr WeightType type = make_weight_type<BlockQ8_0>("Q8_0", 8);
  return type;
}

}  // namespace cga
