// Q5_K encoding: scales and codes as quant/k_scales chooses them.
#include "quant/k_scales.h"
#include "quant/q5_k/block.h"

namespace cga {

void encode_block(const float* values, BlockQ5_K& block) {
  std::uint8_t q[256];
  block.factors = encode_k(values, 32, q);
  pack_k_nibbles(q, block.packed);
  for (int i = 0; i < 32; ++i) {
    int bits = 0;
    for (int g = 0; g < 8; ++g) bits |= (q[32 * g + i] >> 4) << g;
    block.high[i] = static_cast<std::uint8_t>(bits);
  }
}

}  // namespace cga
