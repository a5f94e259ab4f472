// Q5_1 encoding: the range of the values sets scale and lowest value.
#include "quant/nearest.h"
#include "quant/nibbles.h"
#include "quant/q5_1/block.h"

namespace cga {

void encode_block(const float* values, BlockQ5_1& block) {
  std::uint8_t q[32];
  const AffineScale stored = nearest_affine(values, 32, 32, q);
  block.scale = stored.scale;
  block.low = stored.low;
  pack_nibbles(q, block.packed);
  pack_fifth_bits(q, block.high);
}

}  // namespace cga
