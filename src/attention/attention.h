// The attention block of one layer: project → append → attend → project back. What it attends to was chosen
// by the step that gave it the layer's keys (cache/kv_step.h).
#pragma once

#include <cstdint>
#include <memory>

#include "cache/kv_step.h"
#include "kernels/ops.h"

namespace cga {

/// Geometry the attention block needs; the same for all layers.
struct AttentionShape {
  std::int32_t n_heads = 0, n_kv_heads = 0, head_dim = 0;
  RopePairs rope_pairs = RopePairs::halves;

  std::int64_t q_dim() const { return std::int64_t{n_heads} * head_dim; }
  std::int64_t kv_dim() const { return std::int64_t{n_kv_heads} * head_dim; }
};

struct AttentionWeights {
  std::unique_ptr<PreparedWeight> q;       // [n_heads * head_dim, dim]
  std::unique_ptr<PreparedWeight> k, v;    // [n_kv_heads * head_dim, dim]
  std::unique_ptr<PreparedWeight> output;  // [dim, n_heads * head_dim]
  const float* q_bias = nullptr;           // [n_heads * head_dim], f32, or null
  const float* k_bias = nullptr;           // [n_kv_heads * head_dim], f32, or null
  const float* v_bias = nullptr;           // [n_kv_heads * head_dim], f32, or null
};

/// Where one layer's attention puts its intermediates.
struct AttentionBuffers {
  float* q = nullptr;      // [n_tokens, n_heads, head_dim]
  float* k = nullptr;      // [n_tokens, n_kv_heads, head_dim]
  float* v = nullptr;      // [n_tokens, n_kv_heads, head_dim]
  float* mixed = nullptr;  // [n_tokens, n_heads, head_dim]: attention's result before the output projection
};

/// What a batch looks like to attention, whatever the layer.
struct AttentionBatch {
  std::int64_t n_tokens = 0;
  const float* cos_sin = nullptr;  // [n_tokens, 2, head_dim/2]
};

/// Adds the block's output to x.  x, input: [n_tokens, dim]; input may be x normed.
void run_attention(Ops& ops, const AttentionShape& shape, const AttentionWeights& weights, const LayerKv& kv,
                   const AttentionBatch& batch, const AttentionBuffers& scratch, const NormedRows& input,
                   float* x);

}  // namespace cga
