// Q6_K as a weight type.
#include "quant/block_type.h"
#include "quant/q6_k/decode.h"

namespace cga {

const WeightType& weight_type_q6_k() {
  static constexpr WeightType type = make_weight_type<BlockQ6_K>("Q6_K", 14);
  return type;
}

}  // namespace cga
