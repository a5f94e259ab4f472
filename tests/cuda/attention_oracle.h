// What keys, values and attention should be, on the host: vectors rounded by the encoders of src/quant, and
// attention over them in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/ops.h"
#include "quant/hadamard.h"
#include "quant/q4_0/decode.h"
#include "quant/q8_0/decode.h"
#include "support/normal.h"

namespace cga::test {

struct Heads {
  int n_kv_heads, group, head_dim;
  KvElement element;
  int n_heads() const { return n_kv_heads * group; }
  KvLayout layout() const { return {n_kv_heads, head_dim, element}; }
};

template <class Block>
void round_blocks(float* x, int head_dim) {
  for (int i = 0; i < head_dim; i += Block::values) {
    Block block;
    encode_block(x + i, block);
    decode_block(block, x + i);
  }
}

/// A vector as pages keep it; of q4, still transformed.
inline void round_vector(float* x, int head_dim, KvElement element) {
  if (element == KvElement::bf16) {
    for (int i = 0; i < head_dim; ++i) x[i] = bf16_to_f32(f32_to_bf16(x[i]));
  } else if (element == KvElement::q8) {
    round_blocks<BlockQ8_0>(x, head_dim);
  } else if (element == KvElement::q4) {
    hadamard(x, head_dim);
    round_blocks<BlockQ4_0>(x, head_dim);
  }
}

/// A few sequences' keys, values and queries, by position: as given, and as kept.
struct Story {
  Heads heads;
  int length;
  std::vector<std::vector<float>> q, k, v, kept_k, kept_v;  // a sequence: [length, heads, head_dim]

  Story(Heads h, int n_sequences, int n, float deviation = 1.5f) : heads(h), length(n) {
    for (int s = 0; s < n_sequences; ++s) {
      const auto seed = static_cast<std::uint32_t>(10 * s);
      const auto n_kv = static_cast<std::size_t>(n) * h.n_kv_heads * h.head_dim;
      k.push_back(normal(n_kv, seed));
      v.push_back(normal(n_kv, seed + 1));
      q.push_back(normal(n_kv * h.group, seed + 2, deviation));
      kept_k.push_back(k.back());
      kept_v.push_back(v.back());
      for (std::size_t i = 0; i < n_kv; i += h.head_dim) {
        round_vector(&kept_k.back()[i], h.head_dim, h.element);
        round_vector(&kept_v.back()[i], h.head_dim, h.element);
      }
    }
  }
};

/// The result of all heads of the query at `position`, over the tokens at `seen` (the positions that pages or
/// a choice of units hold).  out: [n_heads, head_dim], f32
inline void attend_exactly(const Story& story, int s, int position, const std::vector<int>& seen,
                           float* out) {
  const Heads& h = story.heads;
  const int d = h.head_dim;
  const double scale = 1 / std::sqrt(static_cast<double>(d));
#pragma omp parallel for
  for (int head = 0; head < h.n_heads(); ++head) {
    const auto query_at = (static_cast<std::size_t>(position) * h.n_heads() + head) * d;
    std::vector<float> q(story.q[s].begin() + query_at, story.q[s].begin() + query_at + d);
    if (h.element == KvElement::q4) hadamard(q.data(), d);
    std::vector<double> weights, sums(d);
    const auto at = [&](int token) {
      return (static_cast<std::size_t>(token) * h.n_kv_heads + head / h.group) * d;
    };
    double largest = -INFINITY, total = 0;
    for (const int token : seen) {
      double score = 0;
      for (int i = 0; i < d; ++i) score += double{q[i]} * story.kept_k[s][at(token) + i];
      weights.push_back(score * scale);
      largest = std::max(largest, weights.back());
    }
    for (double& weight : weights) total += weight = std::exp(weight - largest);
    for (std::size_t n = 0; n < seen.size(); ++n) {
      for (int i = 0; i < d; ++i) sums[i] += weights[n] * story.kept_v[s][at(seen[n]) + i];
    }
    float* to = out + head * d;
    for (int i = 0; i < d; ++i) to[i] = static_cast<float>(sums[i] / total);
    if (h.element == KvElement::q4) hadamard(to, d);
  }
}

}  // namespace cga::test
