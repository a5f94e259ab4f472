// The index in plain loops, straight from docs/sidecar.md: keys, scores, and the choice; and the attention
// mass that it learned to predict.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "kernels/reference/page.h"
#include "kernels/reference/reference_ops.h"

namespace cga::reference {
namespace {

/// A vector of the index as it is kept: code = round(value / scale).
struct Rounded {
  std::vector<std::int8_t> codes;  // [width]
  float scale = 1.0f;
};

/// Rotates the second half of x, whose channel i goes with channel i + width/4, and rounds to int8.
/// x: [width]; cos_sin: [2, width/4]
Rounded rotate_and_round(const float* x, const float* cos_sin, std::int32_t width) {
  const std::int32_t pairs = width / 4;
  std::vector<float> y(x, x + width);
  for (std::int32_t i = 0; i < pairs; ++i) {
    const float a = x[width - 2 * pairs + i], b = x[width - pairs + i];
    const float cos = cos_sin[i], sin = cos_sin[pairs + i];
    y[static_cast<std::size_t>(width - 2 * pairs + i)] = a * cos - b * sin;
    y[static_cast<std::size_t>(width - pairs + i)] = b * cos + a * sin;
  }
  float largest = 0;
  for (const float value : y) largest = std::max(largest, std::abs(value));
  Rounded out;
  if (largest > 0) out.scale = largest / 127;
  for (const float value : y) {
    const float code = std::nearbyint(value / out.scale);
    out.codes.push_back(static_cast<std::int8_t>(std::clamp(code, -127.0f, 127.0f)));
  }
  return out;
}

/// Best token score of a unit.  weights: [n_heads], each with its query's scale and 1/sqrt(width) in it
float score_unit(const IndexUnit& unit, const std::vector<Rounded>& queries,
                 const std::vector<float>& weights) {
  float best = -INFINITY;
  for (std::int32_t t = 0; t < unit_tokens; ++t) {
    float sum = 0;
    for (std::size_t j = 0; j < queries.size(); ++j) {
      std::int32_t dot = 0;
      for (std::size_t i = 0; i < queries[j].codes.size(); ++i) {
        dot += std::int32_t{queries[j].codes[i]} * unit.codes[i * unit_tokens + static_cast<std::size_t>(t)];
      }
      sum += weights[j] * static_cast<float>(std::max(0, dot));
    }
    best = std::max(best, sum * unit.scales[t]);
  }
  return best;
}

/// One query head at one position.  weights: scratch; mass: [units of positions 0 to `position`]
void add_mass(const PageReader& pages, const AttentionMassParams& params, std::int32_t kv_head,
              std::int32_t position, const float* q, std::vector<double>& weights, float* mass) {
  const auto head_dim = static_cast<std::size_t>(params.pages.layout.head_dim);
  std::vector<float> key(head_dim);
  weights.clear();
  for (std::int32_t s = 0; s <= position; ++s) {
    weights.push_back(-INFINITY);
    if (!pages.has(s)) continue;
    pages.read(0, kv_head, s, key.data());
    weights.back() = std::inner_product(key.begin(), key.end(), q, 0.0) * params.scale;
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double sum = 0;
  for (double& weight : weights) sum += weight = std::exp(weight - highest);
  for (std::int32_t s = 0; s <= position; ++s) {
    mass[s / unit_tokens] += static_cast<float>(weights[static_cast<std::size_t>(s)] / sum);
  }
}

}  // namespace

void ReferenceOps::index_keys(const IndexKeysParams& params) {
  const IndexLayout& layout = params.pages.layout;
  for (const SequenceRows& sequence : params.sequences) {
    for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
      const std::int64_t row = std::int64_t{sequence.first_row} + t;
      const std::int32_t position = sequence.position + t, in_unit = position % unit_tokens;
      const Rounded key = rotate_and_round(params.k + row * layout.width,
                                           params.cos_sin + row * layout.width / 2, layout.width);
      const IndexUnit unit =
          index_unit(params.pages.base, layout, sequence.pages.data(), position / unit_tokens);
      for (std::int32_t i = 0; i < layout.width; ++i) {
        unit.codes[i * unit_tokens + in_unit] = key.codes[static_cast<std::size_t>(i)];
      }
      unit.scales[in_unit] = key.scale;
    }
  }
}

void ReferenceOps::score_units(const ScoreUnitsParams& params) {
  const std::int32_t width = params.pages.layout.width;
  float* scores = params.scores;
  for (const ScoredRow& row : params.rows) {
    const float* cos_sin = params.cos_sin + std::int64_t{row.row} * width / 2;
    std::vector<Rounded> queries;
    std::vector<float> weights;
    for (std::int64_t j = 0; j < params.n_heads; ++j) {
      const std::int64_t at = row.row * std::int64_t{params.n_heads} + j;
      queries.push_back(rotate_and_round(params.q + at * width, cos_sin, width));
      weights.push_back(params.weights[at] / std::sqrt(static_cast<float>(width)) * queries.back().scale);
    }
    for (std::int32_t u = row.first; u < row.last; ++u) {
      const IndexUnit unit = index_unit(params.pages.base, params.pages.layout, row.pages.data(), u);
      scores[u] = score_unit(unit, queries, weights);
    }
    scores += params.stride;
  }
}

void ReferenceOps::top_units(const TopUnitsParams& params) {
  std::int32_t* chosen = params.units;
  for (std::size_t i = 0; i < params.rows.size(); ++i) {
    const ScoredRow& row = params.rows[i];
    const std::int32_t count = units_of_row(params, row);
    const bool follows = i > 0 && row.before == chosen - params.count;
    const std::int32_t n_before = !follows ? row.n_before : params.need ? params.counts[i - 1] : params.count;
    const float* own = params.scores + static_cast<std::int64_t>(i) * params.stride;
    std::vector<float> scores(own, own + row.last);
    for (std::int32_t j = 0; row.before != nullptr && j < n_before; ++j) {
      scores[static_cast<std::size_t>(row.before[j])] += params.bonus;
    }
    std::vector<std::int32_t> order(static_cast<std::size_t>(row.last - row.first));
    std::iota(order.begin(), order.end(), row.first);
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return scores[static_cast<std::size_t>(a)] > scores[static_cast<std::size_t>(b)];
    });
    std::copy_n(order.begin(), count, chosen);
    std::sort(chosen, chosen + count);
    if (params.need != nullptr) params.counts[i] = count;
    chosen += params.count;
  }
}

void ReferenceOps::attention_mass(const AttentionMassParams& params) {
  const KvLayout& layout = params.pages.layout;
  const std::int32_t group = params.n_heads / layout.n_kv_heads;
  std::vector<double> weights;
  for (const SequenceRows& sequence : params.sequences) {
    const PageReader pages(params.pages, params.residents, sequence);
    for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
      const std::int64_t row = std::int64_t{sequence.first_row} + t;
      for (std::int32_t h = 0; h < params.n_heads; ++h) {
        const float* q = params.q + (row * params.n_heads + h) * layout.head_dim;
        add_mass(pages, params, h / group, sequence.position + t, q, weights,
                 params.mass + row * params.stride);
      }
    }
  }
}

}  // namespace cga::reference
