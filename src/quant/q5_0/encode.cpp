// Q5_0 encoding: the value of largest magnitude sets the scale.
#include "quant/nearest.h"
#include "quant/nibbles.h"
#include "quant/q5_0/block.h"

namespace cga {

void encode_block(const float* values, BlockQ5_0& block) {
  std::uint8_t q[32];
  block.scale = nearest_symmetric(values, 32, 32, q);
  pack_nibbles(q, block.packed);
  pack_fifth_bits(q, block.high);
}

}  // namespace cga
