// Q4_0 as a weight type.
#include "quant/block_type.h"
#include "quant/q4_0/decode.h"

namespace cga {

const WeightType& weight_type_q4_0() {
  static constexpr WeightType type = make_weight_type<BlockQ4_0>("Q4_0", 2);
  return type;
}

}  // namespace cga
