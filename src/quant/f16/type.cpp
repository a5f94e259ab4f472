// F16 as a weight type.
#include "quant/block_type.h"
#include "quant/f16/decode.h"

namespace cga {

inline void encode_block(const float* values, BlockF16& block) {
  block.bits = f32_to_f16(*values);
}

const WeightType& weight_type_f16() {
  static constexpr WeightType type = make_weight_type<BlockF16>("F16", 1);
  return type;
}

}  // namespace cga
