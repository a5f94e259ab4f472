#include "cga/fingerprint.h"

#include <span>
#include <vector>

#include "base/sha256.h"
#include "format/refusal.h"
#include "quant/weight_type.h"

namespace cga {
namespace {

/// Adds a vector of the file to the digest, as f32.
void add_vector(Sha256& hash, const ModelFile& file, const std::string& name) {
  const FileTensor* tensor = file.find(name);
  const std::string field = "tensor " + printable(name);
  if (tensor == nullptr) refuse(file.path().string(), {field, "nothing", "a vector"});
  const WeightType* type = find_weight_type(tensor->type_id);
  if (type == nullptr || tensor->n_dims != 1 || tensor->shape[0] % type->block_values != 0) {
    refuse(file.path().string(), {field, "type " + std::string(tensor->type_name), "a vector of floats"});
  }
  std::vector<float> values(static_cast<std::size_t>(tensor->shape[0]));
  type->decode(tensor->data.data(), tensor->shape[0] / type->block_values, values.data());
  hash.update(std::as_bytes(std::span(values)));
}

std::string layer_tensor(std::int32_t layer, std::string_view role) {
  return "blk." + std::to_string(layer) + "." + std::string(role);
}

}  // namespace

std::string fingerprint(const ModelFile& file, const BaseModel& model) {
  std::string numbers = model.architecture;
  for (const std::int32_t number :
       {model.n_layers, model.n_heads, model.n_kv_heads, model.head_dim, model.dim}) {
    numbers += " " + std::to_string(number);
  }
  numbers += "\n";
  Sha256 hash;
  hash.update(std::as_bytes(std::span(numbers)));
  for (std::int32_t layer = 0; layer < model.n_layers; ++layer) {
    for (const auto* role : {"attn_norm.weight", "ffn_norm.weight"}) {
      add_vector(hash, file, layer_tensor(layer, role));
    }
  }
  add_vector(hash, file, "output_norm.weight");
  if (file.find(layer_tensor(0, "attn_q.bias")) == nullptr) return hash.finish();
  for (std::int32_t layer = 0; layer < model.n_layers; ++layer) {
    for (const auto* role : {"attn_q.bias", "attn_k.bias", "attn_v.bias"}) {
      add_vector(hash, file, layer_tensor(layer, role));
    }
  }
  return hash.finish();
}

}  // namespace cga
