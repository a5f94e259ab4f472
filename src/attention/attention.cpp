#include "attention/attention.h"

#include <array>
#include <cmath>

namespace cga {
namespace {

void project(Ops& ops, const AttentionShape& shape, const AttentionWeights& weights,
             const AttentionBatch& batch, const AttentionBuffers& scratch, const float* h) {
  const std::array<MatmulTarget, 3> targets{{{weights.q.get(), weights.q_bias, scratch.q},
                                             {weights.k.get(), weights.k_bias, scratch.k},
                                             {weights.v.get(), weights.v_bias, scratch.v}}};
  ops.matmul(targets, h, batch.n_tokens);
  ops.rope(scratch.q, batch.cos_sin, shape.rope_pairs, batch.n_tokens, shape.n_heads, shape.head_dim);
  ops.rope(scratch.k, batch.cos_sin, shape.rope_pairs, batch.n_tokens, shape.n_kv_heads, shape.head_dim);
}

void attend(Ops& ops, const AttentionShape& shape, const LayerKv& kv, const AttentionBuffers& scratch) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  if (kv.mass != nullptr) {
    ops.attention_mass({.q = scratch.q,
                        .n_heads = shape.n_heads,
                        .scale = scale,
                        .pages = kv.pages,
                        .sequences = kv.read,
                        .mass = kv.mass,
                        .stride = kv.mass_stride,
                        .residents = kv.residents});
  }
  ops.attend({.q = scratch.q,
              .out = scratch.mixed,
              .n_heads = shape.n_heads,
              .scale = scale,
              .pages = kv.pages,
              .sequences = kv.read,
              .residents = kv.residents});
}

}  // namespace

void run_attention(Ops& ops, const AttentionShape& shape, const AttentionWeights& weights, const LayerKv& kv,
                   const AttentionBatch& batch, const AttentionBuffers& scratch, float* h) {
  project(ops, shape, weights, batch, scratch, h);
  ops.append({.k = scratch.k, .v = scratch.v, .pages = kv.pages, .sequences = kv.appended});
  attend(ops, shape, kv, scratch);
  const MatmulTarget output{weights.output.get(), nullptr, h};
  ops.matmul({&output, 1}, scratch.mixed, batch.n_tokens);
}

}  // namespace cga
