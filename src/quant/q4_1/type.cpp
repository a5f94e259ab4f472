// Q4_1 as a weight type.
#include "quant/block_type.h"
#include "quant/q4_1/decode.h"

namespace cga {

const WeightType& weight_type_q4_1() {
  static constexpr WeightType type = make_weight_type<BlockQ4_1>("Q4_1", 3);
  return type;
}

}  // namespace cga
