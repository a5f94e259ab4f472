// Llama and its many relatives (SmolLM2, Mistral, …).
#include "model/family.h"

namespace cga {

const Family& family_llama() {
  // GGUF files of this family store q and k with rows reordered for interleaved rotation.
  static constexpr Family family{.architecture = "llama", .rope_pairs = RopePairs::interleaved};
  return family;
}

}  // namespace cga
