// Q4_K encoding: scales and codes as quant/k_scales chooses them.
#include "quant/k_scales.h"
#include "quant/q4_k/block.h"

namespace cga {

void encode_block(const float* values, BlockQ4_K& block) {
  std::uint8_t q[256];
  block.factors = encode_k(values, 16, q);
  pack_k_nibbles(q, block.packed);
}

}  // namespace cga
