// BF16 as a weight type.
#include "quant/bf16/decode.h"
#include "quant/block_type.h"

namespace cga {

inline void encode_block(const float* values, BlockBF16& block) {
  block.bits = f32_to_bf16(*values);
}

const WeightType& weight_type_bf16() {
  static constexpr WeightType type = make_weight_type<BlockBF16>("BF16", 30);
  return type;
}

}  // namespace cga
