// The numbers that define a model, read from its file and checked.
#pragma once

#include <cstdint>
#include <string>

#include "attention/attention.h"
#include "format/model_file.h"
#include "model/family.h"

namespace cga {

struct Hparams {
  std::string name;
  std::int32_t n_layers = 0;
  std::int32_t dim = 0;      // width of the residual stream
  std::int32_t ffn_dim = 0;  // width of the MLP
  std::int32_t n_ctx_train = 0;
  float rms_eps = 0;
  AttentionShape attention;
  double rope_base = 10000.0;
  double rope_linear_scale = 1.0;  // positions are divided by this
};

/// @throws Error (bad_file) naming file, key, found and expected
Hparams read_hparams(const ModelFile& file, const Family& family);

}  // namespace cga
