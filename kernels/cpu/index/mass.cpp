// Ops::attention_mass: evaluation only, so plain loops over the panels of page.h, which compilers vectorise.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/checked.h"
#include "base/half.h"
#include "kernels/cpu/attention/gather.h"
#include "kernels/cpu/attention/page.h"
#include "kernels/cpu/attention/resident.h"
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

/// Scores of one head of a resident unit.  q: [head_dim]; scores: [16]
void score_resident(const ResidentHead& unit, std::int32_t head_dim, const float* q, float* scores) {
  float sums[unit_tokens] = {};
  for (std::int32_t i = 0; i < head_dim; ++i) {
    for (std::int32_t t = 0; t < unit_tokens; ++t) {
      sums[t] += q[i] * static_cast<float>(unit.keys[i * unit_tokens + t]);
    }
  }
  for (std::int32_t t = 0; t < unit_tokens; ++t) scores[t] = sums[t] * bf16_to_f32(unit.key_scales[t]);
}

/// Scores of one head of what a row reads at positions 64 * page on; -inf where there is nothing.
/// @param gathered  room for a head's keys and values
template <class T>
void score_place(const AttentionMassParams& params, const SequenceRows& sequence, std::int32_t page,
                 std::int32_t kv_head, const float* q, std::vector<T>& gathered, float* scores) {
  const std::int32_t head_dim = params.pages.layout.head_dim;
  const auto at = static_cast<std::size_t>(page);
  if (sequence.units.empty()) {
    const T* keys = head_block<T>(params.pages, sequence.pages[at], kv_head).keys;
    return score_page(keys, head_dim, q, scores);
  }
  auto units = sequence.units.subspan(at * page_units);
  units = units.first(std::min<std::size_t>(units.size(), page_units));
  const auto n_units = std::find(units.begin(), units.end(), no_unit) - units.begin();
  if (units[0] >= 0) {
    const auto there = units.first(static_cast<std::size_t>(n_units));
    score_page(gather_units(params.pages, there, kv_head, gathered.data()).keys, head_dim, q, scores);
  } else {
    for (std::int32_t i = 0; i < n_units; ++i) {
      const std::int32_t unit = resident_unit(units[static_cast<std::size_t>(i)]);
      score_resident(resident_head(params.residents, unit, kv_head), head_dim, q, scores + i * unit_tokens);
    }
  }
  std::fill(scores + n_units * unit_tokens, scores + page_tokens, -std::numeric_limits<float>::infinity());
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
      score_place(params, sequence, page, h / group, q, gathered, scores + page * page_tokens);
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
