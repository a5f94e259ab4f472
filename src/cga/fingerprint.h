// What ties a sidecar to a checkpoint: its architecture's numbers and a digest of its norms and biases, which
// are stored in f32 whatever the weights are quantised to (docs/sidecar.md).
#pragma once

#include <cstdint>
#include <string>

#include "format/model_file.h"

namespace cga {

/// The numbers of the base model that a sidecar depends on.
struct BaseModel {
  std::string architecture;  // "llama", "qwen2"
  std::int32_t n_layers = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, dim = 0;
  double rope_theta = 0;
  double rope_magnitude = 1;
};

/// @return SHA-256 in hex
/// @throws Error (bad_file) for a model without the norms, or with some of a layer's biases
std::string fingerprint(const ModelFile& file, const BaseModel& model);

}  // namespace cga
