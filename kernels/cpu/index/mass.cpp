// Ops::attention_mass: evaluation only, so plain loops over the panels of page.h, which compilers vectorise.
#include <algorithm>
#include <cmath>
#include <vector>

#include "base/checked.h"
#include "base/half.h"
#include "kernels/cpu/attention/gather.h"
#include "kernels/cpu/attention/page.h"
#include "kernels/cpu/index/index.h"

namespace cga::cpu {
namespace {

float widen(std::uint16_t value) {
  return bf16_to_f32(value);
}
float widen(float value) {
  return value;
}

/// Scores of one head of a page, in the order of positions.  q: [head_dim]; scores: [64]
template <class T>
void score_page(const T* keys, std::int32_t head_dim, const float* q, float* scores) {
  for (std::int32_t panel = 0; panel < page_tokens / panel_tokens; ++panel) {
    float sums[panel_tokens] = {};
    for (std::int32_t i = 0; i < head_dim; ++i, keys += panel_tokens) {
      for (std::int32_t slot = 0; slot < panel_tokens; ++slot) sums[slot] += q[i] * widen(keys[slot]);
    }
    for (std::int32_t t = 0; t < panel_tokens; ++t) *scores++ = sums[key_slot(t, keys)];
  }
}

/// Keys of page `page` of what a row reads.  gathered: room for a head's keys and values
template <class T>
const T* page_keys(const LayerPages& pages, const SequenceRows& sequence, std::int32_t page,
                   std::int32_t kv_head, std::vector<T>& gathered) {
  const auto at = static_cast<std::size_t>(page);
  if (sequence.units.empty()) return head_block<T>(pages, sequence.pages[at], kv_head).keys;
  const auto units = sequence.units.subspan(at * page_units);
  return gather_units(pages, units.first(std::min<std::size_t>(units.size(), page_units)), kv_head,
                      gathered.data())
      .keys;
}

/// All heads of one row.  scores: scratch, a float for every token of the row's pages
template <class T>
void add_row(const AttentionMassParams& params, const SequenceRows& sequence, std::int32_t t, float* scores) {
  const KvLayout& layout = params.pages.layout;
  const std::int64_t row = std::int64_t{sequence.first_row} + t;
  const std::int32_t n_tokens = sequence.position + t + 1, group = params.n_heads / layout.n_kv_heads;
  float* mass = params.mass + row * params.stride;
  std::vector<T> gathered(static_cast<std::size_t>(2 * page_tokens * layout.head_dim));
  for (std::int32_t h = 0; h < params.n_heads; ++h) {
    const float* q = params.q + (row * params.n_heads + h) * layout.head_dim;
    for (std::int32_t page = 0; page < div_up(n_tokens, page_tokens); ++page) {
      score_page(page_keys(params.pages, sequence, page, h / group, gathered), layout.head_dim, q,
                 scores + page * page_tokens);
    }
    const float highest = *std::max_element(scores, scores + n_tokens);
    double sum = 0;
    for (std::int32_t s = 0; s < n_tokens; ++s) {
      sum += scores[s] = std::exp(params.scale * (scores[s] - highest));
    }
    const auto inverse = static_cast<float>(1 / sum);
    for (std::int32_t s = 0; s < n_tokens; ++s) mass[s / unit_tokens] += scores[s] * inverse;
  }
}

}  // namespace

void attention_mass(const AttentionMassParams& params, ThreadPool& pool, IndexScratch& scratch) {
  const std::int64_t size = (params.stride / page_units + 1) * page_tokens;
  scratch.mass.resize(static_cast<std::size_t>(pool.size() * size));
  for (const SequenceRows& sequence : params.sequences) {
    pool.parallel_for(sequence.n_tokens, [&](std::int64_t t, int thread) {
      float* scores = scratch.mass.data() + thread * size;
      const auto token = static_cast<std::int32_t>(t);
      params.pages.layout.element == KvElement::f32 ? add_row<float>(params, sequence, token, scores)
                                                    : add_row<std::uint16_t>(params, sequence, token, scores);
    });
  }
}

}  // namespace cga::cpu
