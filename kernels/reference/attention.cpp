// Keys and values in pages, and causal softmax attention over them, two-pass and in f64.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/reference/page.h"
#include "kernels/reference/reference_ops.h"

namespace cga::reference {
namespace {

/// One query head at one position.  q, out: [head_dim], f32
void attend_one(const PageReader& pages, const AttendParams& params, std::int32_t kv_head,
                std::int32_t position, const float* q, float* out) {
  const auto head_dim = static_cast<std::size_t>(params.pages.layout.head_dim);
  std::vector<double> weights(static_cast<std::size_t>(position) + 1);
  std::vector<float> vector(head_dim);  // a key, then a value
  for (std::int32_t s = 0; s <= position; ++s) {
    weights[static_cast<std::size_t>(s)] = -INFINITY;
    if (!pages.has(s)) continue;
    pages.read(0, kv_head, s, vector.data());
    double score = 0;
    for (std::size_t i = 0; i < head_dim; ++i) score += double{q[i]} * vector[i];
    weights[static_cast<std::size_t>(s)] = score * params.scale;
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - highest);
  std::vector<double> total(head_dim);
  for (std::int32_t s = 0; s <= position; ++s) {
    if (!pages.has(s)) continue;
    pages.read(1, kv_head, s, vector.data());
    const double weight = weights[static_cast<std::size_t>(s)];
    for (std::size_t i = 0; i < head_dim; ++i) total[i] += weight * vector[i];
  }
  for (std::size_t i = 0; i < head_dim; ++i) out[i] = static_cast<float>(total[i] / sum);
}

/// The same where keys and values are stored transformed: so must the query be, and the result turned back.
void attend_transformed(const PageReader& pages, const AttendParams& params, std::int32_t kv_head,
                        std::int32_t position, const float* q, float* out) {
  const std::int32_t head_dim = params.pages.layout.head_dim;
  std::vector<float> turned(q, q + head_dim);
  hadamard(turned.data(), head_dim);
  attend_one(pages, params, kv_head, position, turned.data(), out);
  hadamard(out, head_dim);
}

}  // namespace

void ReferenceOps::append(const AppendParams& params) {
  const KvLayout& layout = params.pages.layout;
  for (const SequenceRows& sequence : params.sequences) {
    const PageReader pages(params.pages, sequence.pages);
    for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
      const std::int64_t row = std::int64_t{sequence.first_row} + t;
      for (std::int32_t h = 0; h < layout.n_kv_heads; ++h) {
        const std::int64_t at = (row * layout.n_kv_heads + h) * layout.head_dim;
        pages.write(0, h, sequence.position + t, params.k + at);
        pages.write(1, h, sequence.position + t, params.v + at);
      }
    }
  }
}

void ReferenceOps::copy_pages(const CopyPagesParams& params) {
  const std::int64_t bytes = params.from.layout.page_bytes();
  for (std::size_t i = 0; i < params.from_ids.size(); ++i) {
    std::memcpy(params.to.base + params.to_ids[i] * bytes, params.from.base + params.from_ids[i] * bytes,
                static_cast<std::size_t>(bytes));
  }
}

void ReferenceOps::attend(const AttendParams& params) {
  const KvLayout& layout = params.pages.layout;
  const std::int32_t group = params.n_heads / layout.n_kv_heads;
  const auto attend_head = layout.element == KvElement::q4 ? attend_transformed : attend_one;
  for (const SequenceRows& sequence : params.sequences) {
    const PageReader pages(params.pages, params.residents, sequence);
    for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
      const std::int64_t row = std::int64_t{sequence.first_row} + t;
      for (std::int32_t h = 0; h < params.n_heads; ++h) {
        const std::int64_t at = (row * params.n_heads + h) * layout.head_dim;
        attend_head(pages, params, h / group, sequence.position + t, params.q + at, params.out + at);
      }
    }
  }
}

}  // namespace cga::reference
