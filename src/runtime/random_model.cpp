// Random weights of a published shape: speed can be measured where no checkpoint of that size can be had.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <variant>

#include "cga/error.h"
#include "runtime/model_source.h"

namespace cga {
namespace {

struct Shape {
  std::string_view name;
  std::int64_t n_layers, dim, ffn_dim, n_heads, n_kv_heads, head_dim, n_vocab, n_ctx;
  double rope_base;
};

constexpr std::array<Shape, 2> shapes{{
    {"llama3-8b", 32, 4096, 14336, 32, 8, 128, 128256, 131072, 500000.0},
    {"llama3-1b", 16, 2048, 8192, 32, 8, 64, 128256, 131072, 500000.0},
}};

/// Serves tensors from memory under the file interface. Matrices of one size share their bytes: packing
/// gives each its own copy, and three gigabytes of identical noise need not exist twice.
class RandomModel final : public ModelFile {
 public:
  RandomModel(const Shape& shape, const WeightType& type)
      : path_("random:" + std::string(shape.name)), type_(type) {
    set_metadata(shape);
    add_tensors(shape);
  }

  const std::filesystem::path& path() const override { return path_; }
  std::span<const FileTensor> tensors() const override { return tensors_; }
  const FileTensor* find(std::string_view name) const override {
    for (const FileTensor& tensor : tensors_) {
      if (tensor.name == name) return &tensor;
    }
    return nullptr;
  }
  std::optional<std::string> text(std::string_view key) const override {
    if (const auto at = texts_.find(key); at != texts_.end()) return at->second;
    return std::nullopt;
  }
  std::optional<std::int64_t> integer(std::string_view key) const override {
    if (const auto at = integers_.find(key); at != integers_.end()) return at->second;
    return std::nullopt;
  }
  std::optional<double> real(std::string_view key) const override {
    if (const auto at = reals_.find(key); at != reals_.end()) return at->second;
    return std::nullopt;
  }
  std::optional<bool> boolean(std::string_view) const override { return std::nullopt; }
  std::optional<std::vector<std::string_view>> texts(std::string_view) const override { return std::nullopt; }
  std::optional<std::vector<std::int64_t>> integers(std::string_view) const override { return std::nullopt; }
  std::vector<std::pair<std::string, std::string>> describe() const override {
    std::vector<std::pair<std::string, std::string>> lines(texts_.begin(), texts_.end());
    for (const auto& [key, value] : integers_) lines.emplace_back(key, std::to_string(value));
    for (const auto& [key, value] : reals_) lines.emplace_back(key, std::to_string(value));
    return lines;
  }
  void release(const FileTensor&) const override {}

 private:
  void set_metadata(const Shape& shape) {
    texts_["general.architecture"] = "llama";
    texts_["general.name"] = std::string(shape.name) + " (random weights)";
    integers_["llama.block_count"] = shape.n_layers;
    integers_["llama.embedding_length"] = shape.dim;
    integers_["llama.feed_forward_length"] = shape.ffn_dim;
    integers_["llama.context_length"] = shape.n_ctx;
    integers_["llama.attention.head_count"] = shape.n_heads;
    integers_["llama.attention.head_count_kv"] = shape.n_kv_heads;
    integers_["llama.attention.key_length"] = shape.head_dim;
    reals_["llama.attention.layer_norm_rms_epsilon"] = 1e-5;
    reals_["llama.rope.freq_base"] = shape.rope_base;
  }

  void add_tensors(const Shape& shape) {
    const std::int64_t kv_dim = shape.n_kv_heads * shape.head_dim;
    const std::int64_t q_dim = shape.n_heads * shape.head_dim;
    matrix("token_embd.weight", shape.n_vocab, shape.dim);
    matrix("output.weight", shape.n_vocab, shape.dim);
    ones("output_norm.weight", shape.dim);
    for (std::int64_t i = 0; i < shape.n_layers; ++i) {
      const std::string block = "blk." + std::to_string(i) + ".";
      ones(block + "attn_norm.weight", shape.dim);
      ones(block + "ffn_norm.weight", shape.dim);
      matrix(block + "attn_q.weight", q_dim, shape.dim);
      matrix(block + "attn_k.weight", kv_dim, shape.dim);
      matrix(block + "attn_v.weight", kv_dim, shape.dim);
      matrix(block + "attn_output.weight", shape.dim, q_dim);
      matrix(block + "ffn_gate.weight", shape.ffn_dim, shape.dim);
      matrix(block + "ffn_up.weight", shape.ffn_dim, shape.dim);
      matrix(block + "ffn_down.weight", shape.dim, shape.ffn_dim);
    }
  }

  void matrix(const std::string& name, std::int64_t rows, std::int64_t cols) {
    std::vector<std::byte>& bytes = matrices_[rows * cols];
    if (bytes.empty()) bytes = random_blocks(rows * cols);
    add(name, type_, {cols, rows, 1, 1}, 2, bytes);
  }

  void ones(const std::string& name, std::int64_t n) {
    const WeightType& type = *find_weight_type("F32");
    std::vector<std::byte>& bytes = vectors_[n];
    if (bytes.empty()) {
      const std::vector<float> values(static_cast<std::size_t>(n), 1.0f);
      bytes.resize(values.size() * sizeof(float));
      std::memcpy(bytes.data(), values.data(), bytes.size());
    }
    add(name, type, {n, 1, 1, 1}, 1, bytes);
  }

  void add(const std::string& name, const WeightType& type, std::array<std::int64_t, 4> dims, int n_dims,
           std::span<const std::byte> bytes) {
    tensors_.push_back({name, type.gguf_id, type.name, dims, n_dims, bytes});
  }

  /// Normal values that keep activations near 1. A piece of them is rounded, and repeated: drawing billions
  /// would take minutes.
  std::vector<std::byte> random_blocks(std::int64_t n_values) {
    constexpr std::int64_t most = 1 << 20;  // whole blocks of every type
    const std::int64_t n_drawn = std::min(n_values, most);
    std::normal_distribution<float> draw(0.0f, 0.025f);
    std::vector<float> values(static_cast<std::size_t>(n_drawn));
    for (float& value : values) value = draw(random_);
    std::vector<std::byte> bytes(static_cast<std::size_t>(type_.row_bytes(n_values)));
    type_.encode(values.data(), n_drawn / type_.block_values, bytes.data());
    const auto piece = static_cast<std::size_t>(type_.row_bytes(n_drawn));
    for (std::size_t at = piece; at < bytes.size(); at += piece) {
      std::memcpy(bytes.data() + at, bytes.data(), std::min(piece, bytes.size() - at));
    }
    return bytes;
  }

  std::filesystem::path path_;
  const WeightType& type_;  // of matrices
  std::mt19937_64 random_{0};
  std::map<std::string, std::string, std::less<>> texts_;
  std::map<std::string, std::int64_t, std::less<>> integers_;
  std::map<std::string, double, std::less<>> reals_;
  std::map<std::int64_t, std::vector<std::byte>> matrices_, vectors_;  // by number of values
  std::vector<FileTensor> tensors_;
};

}  // namespace

std::unique_ptr<ModelFile> random_model(std::string_view name) {
  const std::size_t colon = name.find(':');
  const std::string_view shape_name = name.substr(0, colon);
  const std::string_view type_name = colon == std::string_view::npos ? "Q4_0" : name.substr(colon + 1);
  const WeightType* type = find_weight_type(type_name);
  if (type == nullptr) {
    throw Error(ErrorKind::usage, "--shape", "no weight type '" + std::string(type_name) + "'",
                "write " + std::string(shape_name) + ":BF16, :Q8_0 or another type of GGUF");
  }
  std::string known;
  for (const Shape& shape : shapes) {
    if (shape.name == shape_name) return std::make_unique<RandomModel>(shape, *type);
    known.append(known.empty() ? "" : ", ").append(shape.name);
  }
  throw Error(ErrorKind::usage, "--shape", "no shape '" + std::string(shape_name) + "'",
              "use one of " + known);
}

}  // namespace cga
