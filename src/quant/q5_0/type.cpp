// Q5_0 as a weight type.
#include "quant/block_type.h"
#include "quant/q5_0/decode.h"

namespace cga {

const WeightType& weight_type_q5_0() {
  static constexpr WeightType type = make_weight_type<BlockQ5_0>("Q5_0", 6);
  return type;
}

}  // namespace cga
