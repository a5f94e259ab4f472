// A sidecar: what Compact Grouped Attention learned about one checkpoint, in a file beside it
// (docs/sidecar.md). Everything is checked when it is opened; the groups' tensors are read where they are
// mapped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "cga/fingerprint.h"
#include "cga/layer_plan.h"
#include "cga/sidecar_metadata.h"
#include "format/safetensors.h"
#include "tensor/latent_view.h"
#include "tensor/weight_view.h"

namespace cga {

/// Consecutive layers that share one latent.
struct LayerGroup {
  std::int32_t first_layer = 0, n_layers = 0;
  LatentView transform;
};

/// Consecutive layers of one layer group that read the units which the first of them, their anchor, chooses;
/// and what it chooses by (docs/sidecar.md, "The index").
struct SelectGroup {
  LayerRange layers;
  std::int32_t n_key_layers = 0;          // K: layers from the anchor on whose inputs make the keys
  const std::uint16_t* query = nullptr;   // [heads, width, dim], f16
  const std::uint16_t* key = nullptr;     // [n_key_layers, width, dim], f16
  const std::uint16_t* weight = nullptr;  // [heads, dim], f16
  const float* bias = nullptr;            // [heads], f32
  const std::uint16_t* need = nullptr;    // [1, dim], f16; null: all queries read as much
  const float* need_bias = nullptr;       // [1], f32
};

/// Low-rank matrices beside a layer's query and output projections, for queries that leave something of the
/// archive unread (docs/sidecar.md, "Adapters").
struct LayerAdapter {
  std::int64_t rank = 0;
  const std::uint16_t* q_down = nullptr;  // [rank, dim], f16
  const std::uint16_t* q_up = nullptr;    // [n_heads * head_dim, rank], f16
  const std::uint16_t* o_down = nullptr;  // [rank, n_heads * head_dim], f16
  const std::uint16_t* o_up = nullptr;    // [dim, rank], f16
};

/// A matrix of a sidecar, [rows, cols], f16, for Ops::prepare.
WeightView half_matrix(const std::uint16_t* data, std::int64_t rows, std::int64_t cols);

class Sidecar {
 public:
  /// @throws Error (io) for a file that cannot be opened, (bad_file) naming what is wrong in it
  explicit Sidecar(const std::filesystem::path& path);
  explicit Sidecar(SafetensorsFile file);

  const std::filesystem::path& path() const { return file_.path(); }
  const SidecarMetadata& metadata() const { return metadata_; }
  std::span<const LayerGroup> groups() const { return groups_; }
  std::span<const SelectGroup> select_groups() const { return select_groups_; }  // none: it has no index
  std::span<const LayerAdapter> adapters() const { return adapters_; }           // one a layer; or none
  std::int64_t transform_bytes() const;
  std::int64_t index_bytes() const;    // of the anchors' matrices
  std::int64_t adapter_bytes() const;  // of the adapters' matrices

  /// How the sidecar and a model differ ("made for n_layers 30, the model has 24"); empty if they belong
  /// together. Reads the model's norms and biases.
  std::string mismatch(const ModelFile& file, const BaseModel& model) const;
  bool matches(const ModelFile& file, const BaseModel& model) const { return mismatch(file, model).empty(); }
  /// @throws Error (bad_file) naming both files, unless they belong together
  void require_match(const ModelFile& file, const BaseModel& model) const;

 private:
  SafetensorsFile file_;
  SidecarMetadata metadata_;
  std::vector<LayerGroup> groups_;
  std::vector<SelectGroup> select_groups_;
  std::vector<LayerAdapter> adapters_;
};

}  // namespace cga
