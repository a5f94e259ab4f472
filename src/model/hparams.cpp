#include "model/hparams.h"

#include <cmath>
#include <limits>
#include <optional>

#include "cga/error.h"

namespace cga {
namespace {

/// Reads the keys of one family, "<architecture>.<key>", and refuses what is missing or out of range.
class Keys {
 public:
  Keys(const ModelFile& file, std::string_view prefix) : file_(file), prefix_(prefix) {}

  std::string full(std::string_view key) const { return std::string(prefix_) + "." + std::string(key); }

  [[noreturn]] void refuse(std::string_view key, const std::string& found,
                           const std::string& expected) const {
    throw Error(ErrorKind::bad_file, file_.path().string(),
                "key '" + full(key) + "': found " + found + ", expected " + expected,
                "this model cannot be run; check that the file is whole and of a supported kind");
  }

  /// A whole number in [1, highest]; `fallback` if the key is missing and there is one.
  std::int32_t count(std::string_view key, std::int64_t highest,
                     std::optional<std::int32_t> fallback = {}) const {
    const std::optional<std::int64_t> value = file_.integer(full(key));
    if (!value && fallback) return *fallback;
    if (!value) refuse(key, "nothing", "a whole number");
    if (*value < 1 || *value > highest) {
      refuse(key, std::to_string(*value), "a number from 1 to " + std::to_string(highest));
    }
    return static_cast<std::int32_t>(*value);
  }

  double positive(std::string_view key, std::optional<double> fallback = {}) const {
    const std::optional<double> value = file_.real(full(key));
    if (!value && fallback) return *fallback;
    if (!value) refuse(key, "nothing", "a number");
    if (!std::isfinite(*value) || *value <= 0) refuse(key, std::to_string(*value), "a positive number");
    return *value;
  }

  std::string text(std::string_view key, std::string_view fallback) const {
    return file_.text(full(key)).value_or(std::string(fallback));
  }

 private:
  const ModelFile& file_;
  std::string_view prefix_;
};

constexpr std::int64_t max_width = std::int64_t{1} << 20;
constexpr std::int64_t max_layers = 1024;
constexpr std::int64_t max_heads = 1024;
constexpr std::int64_t max_context = std::int64_t{1} << 26;

AttentionShape read_attention(const Keys& keys, const Family& family, std::int32_t dim) {
  AttentionShape shape;
  shape.rope_pairs = family.rope_pairs;
  shape.n_heads = keys.count("attention.head_count", max_heads);
  shape.n_kv_heads = keys.count("attention.head_count_kv", max_heads, shape.n_heads);
  if (shape.n_heads % shape.n_kv_heads != 0) {
    keys.refuse("attention.head_count_kv", std::to_string(shape.n_kv_heads),
                "a divisor of " + std::to_string(shape.n_heads) + " query heads");
  }
  shape.head_dim = keys.count("attention.key_length", 256, dim / shape.n_heads);
  if (shape.head_dim < 16 || shape.head_dim % 16 != 0 || shape.head_dim > 256) {
    keys.refuse("attention.key_length", std::to_string(shape.head_dim), "a multiple of 16, at most 256");
  }
  const std::int32_t value_length = keys.count("attention.value_length", 256, shape.head_dim);
  if (value_length != shape.head_dim) {
    keys.refuse("attention.value_length", std::to_string(value_length),
                "the key length, " + std::to_string(shape.head_dim));
  }
  const std::int32_t rotated = keys.count("rope.dimension_count", 256, shape.head_dim);
  if (rotated != shape.head_dim) {
    keys.refuse("rope.dimension_count", std::to_string(rotated),
                "the head's width, " + std::to_string(shape.head_dim));
  }
  return shape;
}

double read_rope_scale(const Keys& keys) {
  const std::string scaling = keys.text("rope.scaling.type", "none");
  if (scaling == "none") return keys.positive("rope.scale_linear", 1.0);
  if (scaling == "linear") return keys.positive("rope.scaling.factor");
  keys.refuse("rope.scaling.type", "'" + scaling + "'", "none or linear");
}

}  // namespace

Hparams read_hparams(const ModelFile& file, const Family& family) {
  const Keys keys(file, family.architecture);
  Hparams hparams;
  hparams.name = file.text("general.name").value_or(std::string(family.architecture));
  hparams.n_layers = keys.count("block_count", max_layers);
  hparams.dim = keys.count("embedding_length", max_width);
  hparams.ffn_dim = keys.count("feed_forward_length", max_width);
  hparams.n_ctx_train = keys.count("context_length", max_context);
  hparams.rms_eps = static_cast<float>(keys.positive("attention.layer_norm_rms_epsilon"));
  hparams.attention = read_attention(keys, family, hparams.dim);
  hparams.rope_base = keys.positive("rope.freq_base", 10000.0);
  hparams.rope_linear_scale = read_rope_scale(keys);
  return hparams;
}

}  // namespace cga
