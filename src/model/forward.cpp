// The forward pass of a Llama-like model, written once for every family, backend, weight type and
// attention: it only names the steps. Shapes are in forward.h, arithmetic is in kernels/.
#include "model/forward.h"

namespace cga {
namespace {

/// x += down(silu(gate(h)) * up(h)), h = norm(x)
void mlp(Ops& ops, const LayerWeights& layer, const NormedRows& input, std::int64_t n_tokens, Activations& a,
         float* x) {
  ops.norm_swiglu({layer.gate.get(), nullptr, a.gate}, {layer.up.get(), nullptr, a.up}, input, n_tokens);
  ops.matmul_add(x, *layer.down, a.gate, n_tokens, a.h);
}

/// Norm and head of the wanted rows only.
void head(const Model& model, Ops& ops, const Batch& batch, const float* x, Activations& a, float* logits) {
  const auto n_rows = static_cast<std::int64_t>(batch.logit_rows.size());
  if (n_rows == 0) return;
  const Hparams& hparams = model.hparams;
  ops.gather(a.h, x, batch.logit_rows, hparams.dim);
  const MatmulTarget target{model.weights.head.get(), nullptr, logits};
  ops.norm_matmul({&target, 1}, {a.h, model.weights.final_norm, hparams.rms_eps, a.h}, n_rows);
}

}  // namespace

void forward(const Model& model, Ops& ops, KvStep& kv, const Batch& batch, LayerRange range, Activations& a,
             float* logits) {
  const Hparams& hparams = model.hparams;
  const Weights& weights = model.weights;
  const std::int64_t n = batch.n_tokens();
  float* const x = batch.x != nullptr ? batch.x : a.x;

  if (range.first == 0) ops.embed(x, *weights.embedding, batch.ids);
  ops.rope_angles(a.cos_sin, batch.positions, weights.inverse_frequency, 1.0f);
  const AttentionBatch rows{n, a.cos_sin};

  for (std::int32_t i = range.first; i < range.last; ++i) {
    const LayerWeights& layer = weights.layers[static_cast<std::size_t>(i)];

    const NormedRows into_attention{x, layer.attention_norm, hparams.rms_eps, a.h};
    run_attention(ops, hparams.attention, layer.attention, kv.layer(i, into_attention), rows, a.attention,
                  into_attention, x);
    mlp(ops, layer, {x, layer.mlp_norm, hparams.rms_eps, a.h}, n, a, x);
  }

  if (range.last == hparams.n_layers) head(model, ops, batch, x, a, logits);
}

}  // namespace cga
