// A model's weights, checked against its numbers and arranged for a backend.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "attention/attention.h"
#include "backend/backend.h"
#include "model/family.h"
#include "model/hparams.h"
#include "tensor/weight_view.h"

namespace cga {

struct LayerWeights {
  const float* attention_norm = nullptr;  // [dim], f32
  AttentionWeights attention;
  const float* mlp_norm = nullptr;           // [dim], f32
  std::unique_ptr<PreparedWeight> gate, up;  // [ffn_dim, dim]
  std::unique_ptr<PreparedWeight> down;      // [dim, ffn_dim]
};

struct Weights {
  std::unique_ptr<PreparedWeight> embedding;  // [n_vocab, dim]: the table that tokens are looked up in
  std::vector<LayerWeights> layers;           // [n_layers]
  const float* final_norm = nullptr;          // [dim], f32
  std::unique_ptr<PreparedWeight> head;       // [n_vocab, dim]
  std::vector<float> inverse_frequency;       // [head_dim/2], radians a token, on the host

  std::int64_t n_vocab() const { return embedding->rows; }
  std::int64_t bytes() const;  // that one decode step reads: layers, norms and head

  std::vector<std::unique_ptr<Buffer>> vectors;  // owns norms and biases
};

/// Loads and arranges all tensors of the family. Messages name file, tensor, found and expected.
/// @param progress  called with the share done, in [0, 1]; may be empty
/// @throws Error (bad_file) for missing, misshapen or unsupported tensors
Weights load_weights(const ModelFile& file, const Family& family, const Hparams& hparams, Backend& backend,
                     const std::function<void(double)>& progress = {});

}  // namespace cga
