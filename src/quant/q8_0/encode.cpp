// Q8_0 encoding: the value of largest magnitude gets code 127 or -127; -128 stays unused, as in other
// writers.
#include <cmath>

#include "quant/nearest.h"
#include "quant/q8_0/block.h"

namespace cga {

void encode_block(const float* values, BlockQ8_0& block) {
  block.scale = f32_to_f16(std::fabs(extreme(values, 32)) / 127.0f);
  const float per_step = inverse(f16_to_f32(block.scale));
  for (int i = 0; i < 32; ++i) {
    block.code[i] = static_cast<std::int8_t>(nearest_code(values[i] * per_step + 127.0f, 254) - 127);
  }
}

}  // namespace cga
