// Q5_K as a weight type.
#include "quant/block_type.h"
#include "quant/q5_k/decode.h"

namespace cga {

const WeightType& weight_type_q5_k() {
  static constexpr WeightType type = make_weight_type<BlockQ5_K>("Q5_K", 13);
  return type;
}

}  // namespace cga
