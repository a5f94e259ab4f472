// Q4_K as a weight type.
#include "quant/block_type.h"
#include "quant/q4_k/decode.h"

namespace cga {

const WeightType& weight_type_q4_k() {
  static constexpr WeightType type = make_weight_type<BlockQ4_K>("Q4_K", 12);
  return type;
}

}  // namespace cga
