// Qwen2 and Qwen2.5: biases on q, k and v, rotation of the two halves of a head.
#include "model/family.h"

namespace cga {

const Family& family_qwen2() {
  static constexpr Family family{.architecture = "qwen2", .rope_pairs = RopePairs::halves, .qkv_bias = true};
  return family;
}

}  // namespace cga
