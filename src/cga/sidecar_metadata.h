// The metadata of a sidecar: strings of a safetensors file in, checked numbers out (docs/sidecar.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cga/fingerprint.h"
#include "format/safetensors.h"

namespace cga {

struct SidecarMetadata {
  struct Defaults {
    double kv_bits = 0;                              // bits a value
    std::int64_t kv_window = 0, kv_sparse_from = 0;  // tokens
    std::int64_t kv_budget = 0;                      // tokens; 0: not named
  };
  struct Calibration {
    std::string text;
    std::int64_t tokens = 0;
  };
  /// One line of the table measured when the sidecar was made.
  struct Quality {
    std::string text;
    std::int64_t tokens = 0;
    double kv_bits = 0, kl = 0, ppl_change = 0, top1 = 0;
  };

  /// One line of the table of what choosing costs.
  struct IndexQuality {
    std::string text, select;  // select: all, oracle, index
    std::int64_t tokens = 0, budget = 0;
    double kv_bits = 0, recall = 0, kl = 0, ppl_change = 0, top1 = 0;
  };
  struct Index {
    std::vector<std::int32_t> select_layers;  // layers of each selection group; empty: there is no index
    std::int32_t heads = 0, width = 0;        // query heads of an anchor, channels of each and of a key
    std::vector<IndexQuality> quality;
  };

  BaseModel base;
  std::string fingerprint;                 // 64 hexadecimal digits
  std::vector<std::int32_t> group_layers;  // layers of each group; their sum is base.n_layers
  Defaults defaults;
  Index index;
  std::vector<Calibration> calibration;
  std::vector<Quality> quality;
  std::vector<std::vector<double>>
      spectra;  // a group each: share of variance in the first 1, 2, 4, … components
  std::string tool;
};

/// @throws Error (bad_file) naming file, key, found and expected
SidecarMetadata read_sidecar_metadata(const SafetensorsFile& file);

}  // namespace cga
