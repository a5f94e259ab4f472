// What a model file, or a sidecar, says about itself, without loading it: for any model file of a known
// format, whether its architecture is supported or not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace cga {

struct TensorDescription {
  std::string name;
  std::string type;                 // "Q4_1"
  std::vector<std::int64_t> shape;  // as the file orders it: the contiguous dimension first
  std::int64_t n_values = 0;
  std::int64_t bytes = 0;
};

struct ModelDescription {
  std::vector<std::pair<std::string, std::string>> metadata;  // key, value in one line; file order
  std::vector<TensorDescription> tensors;                     // file order
  std::int64_t file_bytes = 0;
};

/// @throws Error (bad_file, io)
ModelDescription describe_model_file(const std::filesystem::path& path);

struct SidecarDescription {
  struct Group {
    std::int32_t first_layer = 0, n_layers = 0;
    std::int64_t n_channels = 0, n_components = 0, n_wide = 0;  // n_wide: with their basis in 16 bits
    std::vector<double> spectrum;  // share of the variance in the first 1, 2, 4, 8 … components
  };
  /// How all groups together would be coded at a rate.
  struct Rate {
    double bits = 0;                                     // a value
    std::int64_t eight = 0, four = 0, two = 0, one = 0;  // components that get so many bits
    std::int64_t token_bytes = 0, token_bf16_bytes = 0;
  };
  struct Quality {
    std::string text;
    std::int64_t tokens = 0;
    double bits = 0, kl = 0, ppl_change = 0, top1 = 0;
  };
  /// What chooses from the archive; no anchors: the sidecar has no index.
  struct Index {
    struct Anchor {
      std::int32_t first_layer = 0, n_layers = 0, n_key_layers = 0;
    };
    struct Quality {
      std::string text, select;
      std::int64_t tokens = 0, budget = 0;
      double bits = 0, recall = 0, kl = 0, ppl_change = 0, top1 = 0;
    };
    std::int32_t heads = 0, width = 0;
    std::int64_t bytes = 0, token_bytes = 0;  // of all matrices; of a token's keys, all anchors
    bool by_need = false;                     // whether it knows how much a query needs
    std::vector<Anchor> anchors;
    std::vector<Quality> quality;
  };
  std::string tool, fingerprint;
  std::int64_t file_bytes = 0, transform_bytes = 0;
  double kv_bits = 0;  // defaults
  std::int64_t kv_window = 0, kv_sparse_from = 0;
  std::int64_t kv_budget = 0;  // 0: not named
  Index index;
  std::int64_t adapter_rank = 0, adapter_bytes = 0;  // 0: the sidecar has no adapters
  std::vector<Group> groups;
  std::vector<Rate> rates;
  std::vector<std::pair<std::string, std::int64_t>> calibration;  // text, tokens
  std::vector<Quality> quality;                                   // measured when it was made
};

/// @param rates  to describe the coding at
/// @throws Error (bad_file, io)
SidecarDescription describe_sidecar(const std::filesystem::path& path, const std::vector<double>& rates);

/// The sidecar that an engine would look for beside a model, whether it is there or not.
std::filesystem::path sidecar_beside(const std::filesystem::path& model);

}  // namespace cga
