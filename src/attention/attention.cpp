#include "attention/attention.h"

#include <array>
#include <cmath>

namespace cga {
namespace {

void project(Ops& ops, const AttentionWeights& weights, const AttentionBatch& batch,
             const AttentionBuffers& scratch, const NormedRows& input) {
  const std::array<MatmulTarget, 3> targets{{{weights.q.get(), weights.q_bias, scratch.q},
                                             {weights.k.get(), weights.k_bias, scratch.k},
                                             {weights.v.get(), weights.v_bias, scratch.v}}};
  ops.norm_matmul(targets, input, batch.n_tokens);
}

void append(Ops& ops, const AttentionShape& shape, const LayerKv& kv, const AttentionBatch& batch,
            const AttentionBuffers& scratch) {
  ops.rope_append({.q = scratch.q,
                   .k = scratch.k,
                   .cos_sin = batch.cos_sin,
                   .pairs = shape.rope_pairs,
                   .n_tokens = batch.n_tokens,
                   .n_heads = shape.n_heads,
                   .append = {scratch.k, scratch.v, kv.pages, kv.appended}});
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
                   const AttentionBatch& batch, const AttentionBuffers& scratch, const NormedRows& input,
                   float* x) {
  project(ops, weights, batch, scratch, input);
  append(ops, shape, kv, batch, scratch);
  attend(ops, shape, kv, scratch);
  ops.matmul_add(x, *weights.output, scratch.mixed, batch.n_tokens, input.h);
}

}  // namespace cga
