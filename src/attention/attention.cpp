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

/// out += up(down(x)) of some rows.
/// @param x     [n_tokens, cols]
/// @param out   [n_tokens, rows]
/// @param room  as large as out
void add_low_rank(Ops& ops, const AdaptedRows& adapted, const LowRank& matrices, const NormedRows& x,
                  float* out, float* room) {
  if (adapted.rows.empty()) return;
  const std::int64_t cols = matrices.down->cols, rows = matrices.up->rows;
  for (const RowRange& range : adapted.rows) {
    const MatmulTarget narrow{matrices.down, nullptr, adapted.narrow};
    const NormedRows own{x.x + range.first * cols, x.weight, x.eps, x.h + range.first * cols};
    ops.norm_matmul({&narrow, 1}, own, range.count);
    ops.matmul_add(out + range.first * rows, *matrices.up, adapted.narrow, range.count,
                   room + range.first * rows);
  }
}

}  // namespace

void run_attention(Ops& ops, const AttentionShape& shape, const AttentionWeights& weights, const LayerKv& kv,
                   const AttentionBatch& batch, const AttentionBuffers& scratch, const NormedRows& input,
                   float* x) {
  project(ops, weights, batch, scratch, input);
  add_low_rank(ops, kv.adapted, kv.adapted.query, input, scratch.q, scratch.mixed);
  append(ops, shape, kv, batch, scratch);
  attend(ops, shape, kv, scratch);
  ops.matmul_add(x, *weights.output, scratch.mixed, batch.n_tokens, input.h);
  add_low_rank(ops, kv.adapted, kv.adapted.output, {.x = scratch.mixed, .h = scratch.mixed}, x, input.h);
}

}  // namespace cga
