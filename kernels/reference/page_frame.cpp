// Keys and values between pages and the frame they are coded in, an element at a time.
#include <span>
#include <vector>

#include "kernels/reference/page.h"
#include "kernels/reference/reference_ops.h"

namespace cga::reference {
namespace {

/// Where the two elements of rotation pair i stand in a stored key.
struct Pair {
  std::int32_t first, second;
};

Pair stored_pair(RopePairs pairs, std::int32_t i, std::int32_t head_dim) {
  if (pairs == RopePairs::interleaved) return {2 * i, 2 * i + 1};
  return {i, i + head_dim / 2};
}

/// One token of one head.  key: [head_dim], as stored; cos_sin: [2, head_dim/2]; x: [head_dim], half-split
void gather_key(const PageFrame& frame, std::int32_t head_dim, const float* cos_sin, const float* key,
                float* x) {
  const std::int32_t half = head_dim / 2;
  for (std::int32_t i = 0; i < half; ++i) {
    const Pair pair = stored_pair(frame.pairs, i, head_dim);
    const double a = key[pair.first], b = key[pair.second];
    const double cos = cos_sin[i], sin = cos_sin[half + i];
    x[i] = static_cast<float>((a * cos + b * sin) / frame.magnitude);
    x[i + half] = static_cast<float>((b * cos - a * sin) / frame.magnitude);
  }
}

void rotate_key(const PageFrame& frame, std::int32_t head_dim, const float* cos_sin, const float* x,
                float* key) {
  const std::int32_t half = head_dim / 2;
  for (std::int32_t i = 0; i < half; ++i) {
    const Pair pair = stored_pair(frame.pairs, i, head_dim);
    const double a = x[i], b = x[i + half], cos = cos_sin[i], sin = cos_sin[half + i];
    key[pair.first] = static_cast<float>((a * cos - b * sin) * frame.magnitude);
    key[pair.second] = static_cast<float>((a * sin + b * cos) * frame.magnitude);
  }
}

}  // namespace

void ReferenceOps::gather_pages(const GatherPagesParams& params) {
  const KvLayout& layout = params.frame.layers[0].layout;
  const std::int64_t kv_dim = std::int64_t{layout.n_kv_heads} * layout.head_dim;
  const std::int64_t all_keys = static_cast<std::int64_t>(params.frame.layers.size()) * kv_dim;
  std::vector<float> key(static_cast<std::size_t>(layout.head_dim));
  float* x = params.x;
  for (std::size_t p = 0; p < params.pages.size(); ++p) {
    const float* cos_sin = params.cos_sin + static_cast<std::int64_t>(p) * layout.head_dim;
    for (std::int32_t t = 0; t < page_tokens; ++t, x += 2 * all_keys) {
      std::int64_t channel = 0;
      for (const LayerPages& layer : params.frame.layers) {
        const PageReader page(layer, params.pages.subspan(p, 1));
        for (std::int32_t h = 0; h < layout.n_kv_heads; ++h, channel += layout.head_dim) {
          page.read(0, h, t, key.data());
          gather_key(params.frame, layout.head_dim, cos_sin, key.data(), x + channel);
          page.read(1, h, t, x + all_keys + channel);
        }
      }
    }
  }
}

void ReferenceOps::scatter_units(const ScatterUnitsParams& params) {
  const KvLayout& layout = params.frame.layers[0].layout;
  const std::int64_t kv_dim = std::int64_t{layout.n_kv_heads} * layout.head_dim;
  const std::int64_t all_keys = static_cast<std::int64_t>(params.frame.layers.size()) * kv_dim;
  std::vector<float> key(static_cast<std::size_t>(layout.head_dim));
  const float* x = params.x;
  for (std::size_t u = 0; u < params.units.size(); ++u) {
    const std::int32_t id = params.units[u] / page_units, first = params.units[u] % page_units * unit_tokens;
    const float* cos_sin = params.cos_sin + static_cast<std::int64_t>(u) * layout.head_dim;
    for (std::int32_t t = first; t < first + unit_tokens; ++t, x += 2 * all_keys) {
      std::int64_t channel = 0;
      for (const LayerPages& layer : params.frame.layers) {
        const PageReader page(layer, {&id, 1});
        for (std::int32_t h = 0; h < layout.n_kv_heads; ++h, channel += layout.head_dim) {
          rotate_key(params.frame, layout.head_dim, cos_sin, x + channel, key.data());
          page.write(0, h, t, key.data());
          page.write(1, h, t, x + all_keys + channel);
        }
      }
    }
  }
}

}  // namespace cga::reference
