// F32 as a weight type.
#include "quant/block_type.h"
#include "quant/f32/decode.h"

namespace cga {

inline void encode_block(const float* values, BlockF32& block) {
  block.value = *values;
}

const WeightType& weight_type_f32() {
  static constexpr WeightType type = make_weight_type<BlockF32>("F32", 0);
  return type;
}

}  // namespace cga
