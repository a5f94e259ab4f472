// The forward pass: what a batch is, where intermediates live, and the pass itself.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "attention/attention.h"
#include "backend/backend.h"
#include "cache/kv_step.h"
#include "cga/layer_plan.h"
#include "model/hparams.h"
#include "model/weights.h"

namespace cga {

/// Tokens of one or more sequences, rows grouped by sequence.
struct Batch {
  std::span<const std::int32_t> ids;         // [n_tokens]
  std::span<const std::int32_t> positions;   // [n_tokens]
  std::span<const std::int32_t> logit_rows;  // rows whose logits are wanted, ascending
  float* x =
      nullptr;  // [n_tokens, dim]: where the residual stream waits between ranges; null: in Activations

  std::int64_t n_tokens() const { return static_cast<std::int64_t>(ids.size()); }
};

/// Device memory for the intermediates of up to max_tokens rows.
class Activations {
 public:
  Activations(Backend& backend, const Hparams& hparams, std::int64_t max_tokens);

  static std::int64_t bytes(const Hparams& hparams, std::int64_t max_tokens);

  float* x = nullptr;  // [n_tokens, dim]: the residual stream
  float* h = nullptr;  // [n_tokens, dim]: a block's input and output
  AttentionBuffers attention;
  float* gate = nullptr;     // [n_tokens, ffn_dim]
  float* up = nullptr;       // [n_tokens, ffn_dim]
  float* cos_sin = nullptr;  // [n_tokens, 2, head_dim/2]

 private:
  std::unique_ptr<Buffer> buffer_;
};

/// A model as the forward pass sees it.
struct Model {
  Hparams hparams;
  Weights weights;
  LayerPlan plan;
};

/// Runs the batch through a range of layers and appends its keys and values to what `kv` keeps. A decode step
/// runs all layers, prefill may run one layer group at a time. The first range starts from the embeddings,
/// the last writes logits: [logit_rows, n_vocab], f32.
void forward(const Model& model, Ops& ops, KvStep& kv, const Batch& batch, LayerRange range, Activations& a,
             float* logits);

}  // namespace cga
