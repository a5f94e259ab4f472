#include "cga/sidecar.h"

#include <cmath>
#include <utility>

#include "cga/error.h"
#include "cga/sidecar_tensors.h"
#include "format/refusal.h"
#include "quant/weight_type.h"

namespace cga {
namespace {

/// Codes of the int8 basis are the one thing not looked at: any of them is a number, and they are most of the
/// file, which opening should not read.
LatentView read_transform(const SidecarTensors& reader, std::int64_t n) {
  const auto any = [](float, float, std::int64_t) { return true; };
  const auto positive = [](float value, float, std::int64_t) { return value > 0; };
  const auto falling = [](float value, float before, std::int64_t) { return value > 0 && value <= before; };
  const auto rising = [](float value, float before, std::int64_t i) { return i == 0 || value > before; };
  LatentView view;
  view.n = n;
  view.m = reader.components("variance", 1, n);
  view.w = reader.components("basis_wide", 2, view.m);
  view.mean = reader.floats("mean", n, "finite numbers", any);
  view.scale = reader.floats("scale", n, "numbers above 0", positive);
  view.variance = reader.floats("variance", view.m, "numbers above 0 that do not increase", falling);
  view.basis_wide = reader.halves("basis_wide", {view.w, n});
  view.basis = reader.values<std::int8_t>("basis", "I8", {view.m - view.w, n});
  view.basis_scale = reader.halves("basis_scale", {view.m - view.w, n / basis_scale_channels});
  view.codebook1 = reader.floats("codebook1", 2, "increasing levels", rising);
  view.codebook2 = reader.floats("codebook2", 4, "increasing levels", rising);
  view.codebook4 = reader.floats("codebook4", 16, "increasing levels", rising);
  return view;
}

/// What the first anchor has beside what all must have, the others have, too.
SelectGroup read_anchor(const SafetensorsFile& file, const SidecarMetadata& metadata, LayerRange layers) {
  const SidecarTensors reader(file, "anchor." + std::to_string(layers.first) + ".");
  const auto any = [](float, float, std::int64_t) { return true; };
  const std::int64_t heads = metadata.index.heads, width = metadata.index.width, dim = metadata.base.dim;
  SelectGroup group{.layers = layers};
  group.n_key_layers = static_cast<std::int32_t>(reader.first_size("key", 3, layers.size()));
  group.query = reader.halves("query", {heads, width, dim});
  group.key = reader.halves("key", {group.n_key_layers, width, dim});
  group.weight = reader.halves("weight", {heads, dim});
  group.bias = reader.floats("bias", heads, "finite numbers", any);
  if (SidecarTensors(file, "anchor.0.").has("need")) {
    group.need = reader.halves("need", {1, dim});
    group.need_bias = reader.floats("need_bias", 1, "a finite number", any);
  }
  return group;
}

LayerAdapter read_adapter(const SafetensorsFile& file, const BaseModel& base, std::int32_t layer) {
  const SidecarTensors reader(file, "lora." + std::to_string(layer) + ".");
  constexpr std::int64_t most_ranks = 1024;
  const std::int64_t dim = base.dim, q_dim = std::int64_t{base.n_heads} * base.head_dim;
  LayerAdapter adapter{.rank = reader.first_size("q_down", 2, most_ranks)};
  adapter.q_down = reader.halves("q_down", {adapter.rank, dim});
  adapter.q_up = reader.halves("q_up", {q_dim, adapter.rank});
  adapter.o_down = reader.halves("o_down", {adapter.rank, q_dim});
  adapter.o_up = reader.halves("o_up", {dim, adapter.rank});
  return adapter;
}

std::int64_t n_channels(const SafetensorsFile& file, const BaseModel& base, std::int32_t n_layers) {
  const std::int64_t n = std::int64_t{2} * n_layers * base.n_kv_heads * base.head_dim;
  if (n % basis_scale_channels != 0) {
    refuse(file.path().string(),
           {"metadata group_layers", "a group of " + std::to_string(n) + " channels", "a multiple of 128"});
  }
  return n;
}

}  // namespace

WeightView half_matrix(const std::uint16_t* data, std::int64_t rows, std::int64_t cols) {
  return {"sidecar", find_weight_type("F16"), rows, cols, reinterpret_cast<const std::byte*>(data)};
}

Sidecar::Sidecar(const std::filesystem::path& path) : Sidecar(SafetensorsFile(MappedFile(path))) {}

Sidecar::Sidecar(SafetensorsFile file) : file_(std::move(file)), metadata_(read_sidecar_metadata(file_)) {
  std::int32_t first_layer = 0;
  for (const std::int32_t n_layers : metadata_.group_layers) {
    const SidecarTensors reader(file_, "group." + std::to_string(groups_.size()) + ".");
    const std::int64_t n = n_channels(file_, metadata_.base, n_layers);
    groups_.push_back({first_layer, n_layers, read_transform(reader, n)});
    first_layer += n_layers;
  }
  first_layer = 0;
  for (const std::int32_t n_layers : metadata_.index.select_layers) {
    select_groups_.push_back(read_anchor(file_, metadata_, {first_layer, first_layer + n_layers}));
    first_layer += n_layers;
  }
  // Without an index nothing is left unread.
  if (select_groups_.empty() || !SidecarTensors(file_, "lora.0.").has("q_down")) return;
  for (std::int32_t layer = 0; layer < metadata_.base.n_layers; ++layer) {
    adapters_.push_back(read_adapter(file_, metadata_.base, layer));
  }
}

std::int64_t Sidecar::adapter_bytes() const {
  const std::int64_t q_dim = std::int64_t{metadata_.base.n_heads} * metadata_.base.head_dim;
  std::int64_t bytes = 0;
  for (const LayerAdapter& adapter : adapters_) bytes += 4 * adapter.rank * (metadata_.base.dim + q_dim);
  return bytes;
}

std::int64_t Sidecar::index_bytes() const {
  const std::int64_t heads = metadata_.index.heads, width = metadata_.index.width, dim = metadata_.base.dim;
  std::int64_t bytes = 0;
  for (const SelectGroup& group : select_groups_) {
    bytes += 2 * dim * (heads * width + group.n_key_layers * width + heads) + 4 * heads;
  }
  return bytes;
}

std::int64_t Sidecar::transform_bytes() const {
  std::int64_t bytes = 0;
  for (const LayerGroup& group : groups_) bytes += group.transform.bytes();
  return bytes;
}

std::string Sidecar::mismatch(const ModelFile& file, const BaseModel& model) const {
  const BaseModel& base = metadata_.base;
  const auto differ = [](std::string_view what, const std::string& made_for, const std::string& found) {
    return "made for " + std::string(what) + " " + made_for + ", the model has " + found;
  };
  if (base.architecture != model.architecture) {
    return differ("architecture", printable(base.architecture), model.architecture);
  }
  const std::pair<std::string_view, std::pair<std::int32_t, std::int32_t>> numbers[] = {
      {"n_layers", {base.n_layers, model.n_layers}},
      {"n_heads", {base.n_heads, model.n_heads}},
      {"n_kv_heads", {base.n_kv_heads, model.n_kv_heads}},
      {"head_dim", {base.head_dim, model.head_dim}},
      {"dim", {base.dim, model.dim}}};
  for (const auto& [what, pair] : numbers) {
    if (pair.first != pair.second)
      return differ(what, std::to_string(pair.first), std::to_string(pair.second));
  }
  const auto close = [](double a, double b) { return std::abs(a - b) <= 1e-5 * std::abs(b); };
  if (!close(base.rope_theta, model.rope_theta)) {
    return differ("rope_theta", std::to_string(base.rope_theta), std::to_string(model.rope_theta));
  }
  if (!close(base.rope_magnitude, model.rope_magnitude)) {
    return differ("rope_magnitude", std::to_string(base.rope_magnitude),
                  std::to_string(model.rope_magnitude));
  }
  const std::string found = fingerprint(file, model);
  return found == metadata_.fingerprint ? "" : differ("fingerprint", metadata_.fingerprint, found);
}

void Sidecar::require_match(const ModelFile& file, const BaseModel& model) const {
  const std::string difference = mismatch(file, model);
  if (difference.empty()) return;
  throw Error(ErrorKind::bad_file, path().string(),
              "does not belong to " + file.path().string() + ": " + difference,
              "make a sidecar for this checkpoint with tools/adapt");
}

}  // namespace cga
