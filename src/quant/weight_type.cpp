#include "quant/weight_type.h"

namespace cga {

const WeightType* find_weight_type(std::uint32_t gguf_id) {
  for (const WeightType* type : weight_types()) {
    if (type->gguf_id == gguf_id) return type;
  }
  return nullptr;
}

const WeightType* find_weight_type(std::string_view name) {
  for (const WeightType* type : weight_types()) {
    if (type->name == name) return type;
  }
  return nullptr;
}

}  // namespace cga
