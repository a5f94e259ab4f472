#include "model/weights.h"

#include <cmath>
#include <string>

#include "cga/error.h"
#include "kernels/ops.h"

namespace cga {
namespace {

std::string layer_name(std::string_view pattern, std::int32_t layer) {
  std::string name(pattern);
  if (const auto at = name.find("{}"); at != std::string::npos) name.replace(at, 2, std::to_string(layer));
  return name;
}

std::string shape_text(std::int64_t rows, std::int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

/// Takes tensors out of a file by name, checks them, and hands them to a backend.
class Loader {
 public:
  Loader(const ModelFile& file, Backend& backend) : file_(file), backend_(backend) {}

  /// @param rows  expected rows; -1: whatever the file has
  WeightView view(const std::string& name, std::int64_t rows, std::int64_t cols) const {
    const FileTensor* tensor = file_.find(name);
    if (tensor == nullptr) refuse(name, "nothing", "a tensor of shape " + shape_text(rows, cols));
    const std::int64_t found_rows = tensor->n_dims >= 2 ? tensor->shape[1] : 1;
    const std::int64_t found_cols = tensor->shape[0];
    if (tensor->n_dims > 2 || found_cols != cols || (rows >= 0 && found_rows != rows)) {
      refuse(name, "shape " + shape_text(found_rows, found_cols), shape_text(rows, cols));
    }
    const WeightType* type = find_weight_type(tensor->type_id);
    if (type == nullptr) refuse(name, "weight type " + std::string(tensor->type_name), supported_types());
    return {name, type, found_rows, found_cols, tensor->data.data()};
  }

  std::unique_ptr<PreparedWeight> matrix(const std::string& name, std::int64_t rows,
                                         std::int64_t cols) const {
    auto prepared = backend_.ops().prepare(view(name, rows, cols));
    if (!prepared->references_file) file_.release(*file_.find(name));
    return prepared;
  }

  /// A vector as f32 in device memory, owned by `weights`.
  const float* vector(Weights& weights, const std::string& name, std::int64_t n) const {
    const WeightView stored = view(name, 1, n);
    auto buffer = backend_.allocate(static_cast<std::size_t>(n) * sizeof(float), name);
    std::vector<float> values(static_cast<std::size_t>(n));
    stored.type->decode(stored.data, n / stored.type->block_values, values.data());
    backend_.write(buffer->data(), values.data(), buffer->size());
    weights.vectors.push_back(std::move(buffer));
    return weights.vectors.back()->as<float>();
  }

  bool has(std::string_view name) const { return file_.find(name) != nullptr; }

 private:
  [[noreturn]] void refuse(const std::string& name, const std::string& found,
                           const std::string& expected) const {
    throw Error(ErrorKind::bad_file, file_.path().string(),
                "tensor '" + name + "': found " + found + ", expected " + expected,
                "use a file of a supported model and weight type");
  }

  static std::string supported_types() {
    std::string names = "one of";
    for (const WeightType* type : weight_types()) names.append(" ").append(type->name);
    return names;
  }

  const ModelFile& file_;
  Backend& backend_;
};

AttentionWeights load_attention(const Loader& loader, const Family& family, const Hparams& hparams,
                                Weights& weights, std::int32_t layer) {
  const TensorNames& names = family.names;
  const std::int64_t q_dim = hparams.attention.q_dim();
  const std::int64_t kv_dim = hparams.attention.kv_dim();
  AttentionWeights attention;
  attention.q = loader.matrix(layer_name(names.q, layer), q_dim, hparams.dim);
  attention.k = loader.matrix(layer_name(names.k, layer), kv_dim, hparams.dim);
  attention.v = loader.matrix(layer_name(names.v, layer), kv_dim, hparams.dim);
  attention.output = loader.matrix(layer_name(names.output, layer), hparams.dim, q_dim);
  if (family.qkv_bias) {
    attention.q_bias = loader.vector(weights, layer_name(names.q_bias, layer), q_dim);
    attention.k_bias = loader.vector(weights, layer_name(names.k_bias, layer), kv_dim);
    attention.v_bias = loader.vector(weights, layer_name(names.v_bias, layer), kv_dim);
  }
  return attention;
}

LayerWeights load_layer(const Loader& loader, const Family& family, const Hparams& hparams, Weights& weights,
                        std::int32_t layer) {
  const TensorNames& names = family.names;
  LayerWeights loaded;
  loaded.attention_norm = loader.vector(weights, layer_name(names.attention_norm, layer), hparams.dim);
  loaded.attention = load_attention(loader, family, hparams, weights, layer);
  loaded.mlp_norm = loader.vector(weights, layer_name(names.mlp_norm, layer), hparams.dim);
  loaded.gate = loader.matrix(layer_name(names.gate, layer), hparams.ffn_dim, hparams.dim);
  loaded.up = loader.matrix(layer_name(names.up, layer), hparams.ffn_dim, hparams.dim);
  loaded.down = loader.matrix(layer_name(names.down, layer), hparams.dim, hparams.ffn_dim);
  return loaded;
}

/// 1 / base^(2i/d), divided by the linear scale and by the file's factors (Llama 3) if it has any.
std::vector<float> inverse_frequencies(const Loader& loader, const Family& family, const Hparams& hparams) {
  const std::int32_t head_dim = hparams.attention.head_dim;
  std::vector<float> factors(static_cast<std::size_t>(head_dim) / 2, 1.0f);
  if (loader.has(family.names.rope_factors)) {
    const WeightView stored = loader.view(std::string(family.names.rope_factors), 1, head_dim / 2);
    stored.type->decode(stored.data, stored.cols / stored.type->block_values, factors.data());
  }
  std::vector<float> frequencies(factors.size());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / head_dim;
    const double frequency = std::pow(hparams.rope_base, -exponent);
    frequencies[i] = static_cast<float>(frequency / hparams.rope_linear_scale / double{factors[i]});
  }
  return frequencies;
}

}  // namespace

std::int64_t Weights::bytes() const {
  std::int64_t total = head->bytes;
  for (const auto& vector : vectors) total += static_cast<std::int64_t>(vector->size());
  for (const LayerWeights& layer : layers) {
    const AttentionWeights& a = layer.attention;
    for (const auto* matrix : {&a.q, &a.k, &a.v, &a.output, &layer.gate, &layer.up, &layer.down}) {
      total += (*matrix)->bytes;
    }
  }
  return total;
}

Weights load_weights(const ModelFile& file, const Family& family, const Hparams& hparams, Backend& backend,
                     const std::function<void(double)>& progress) {
  const Loader loader(file, backend);
  const TensorNames& names = family.names;
  Weights weights;
  weights.embedding = backend.ops().prepare_table(loader.view(std::string(names.embedding), -1, hparams.dim));
  weights.inverse_frequency = inverse_frequencies(loader, family, hparams);
  for (std::int32_t layer = 0; layer < hparams.n_layers; ++layer) {
    weights.layers.push_back(load_layer(loader, family, hparams, weights, layer));
    if (progress) progress(static_cast<double>(layer + 1) / (hparams.n_layers + 1));
  }
  weights.final_norm = loader.vector(weights, std::string(names.final_norm), hparams.dim);
  const std::string_view head = loader.has(names.head) ? names.head : names.embedding;
  weights.head = loader.matrix(std::string(head), weights.n_vocab(), hparams.dim);
  if (progress) progress(1.0);
  return weights;
}

}  // namespace cga
