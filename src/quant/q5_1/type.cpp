// Q5_1 as a weight type.
#include "quant/block_type.h"
#include "quant/q5_1/decode.h"

namespace cga {

const WeightType& weight_type_q5_1() {
  static constexpr WeightType type = make_weight_type<BlockQ5_1>("Q5_1", 7);
  return type;
}

}  // namespace cga
