// Ops::gather_pages and Ops::scatter_units: keys and values between this backend's pages and rows of
// channels. A panel of 32 tokens of one head at a time: tokens are consecutive in a page's keys and far apart
// in the rows, so each key is rotated in a small buffer that stays in the first cache.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "base/half.h"
#include "kernels/cpu/attention/page.h"
#include "kernels/cpu/attention/resident.h"
#include "kernels/cpu/latent/latent.h"
#include "tensor/i8_vector.h"

namespace cga::cpu {
namespace {

float widen(float value) {
  return value;
}
float widen(std::uint16_t value) {
  return bf16_to_f32(value);
}
void store(float value, float* to) {
  *to = value;
}
void store(float value, std::uint16_t* to) {
  *to = f32_to_bf16(value);
}

/// A rotation of the pairs of a head, both ways.
struct Rotation {
  Rotation(const PageFrame& frame, std::int32_t head_dim, const float* cos_sin)
      : interleaved(frame.pairs == RopePairs::interleaved),
        half(head_dim / 2),
        magnitude(frame.magnitude),
        cos(cos_sin),
        sin(cos_sin + head_dim / 2) {}

  // Where the elements of pair i are in a stored key; in a row they are i and i + half.
  std::int32_t first(std::int32_t i) const { return interleaved ? 2 * i : i; }
  std::int32_t second(std::int32_t i) const { return interleaved ? 2 * i + 1 : i + half; }

  bool interleaved;
  std::int32_t half;
  float magnitude;
  const float* cos;  // [half]
  const float* sin;  // [half]
};

/// Tokens [0, n) of a panel, from slot(t) of each row of 32.  keys: [head_dim, 32]; x: rows of tokens
template <class T>
void gather_keys(const T* keys, std::int32_t first, std::int32_t n, const Rotation& rotation, float* x,
                 std::int64_t stride) {
  const float inverse = 1.0f / rotation.magnitude;
  for (std::int32_t i = 0; i < rotation.half; ++i) {
    const T* a_row = keys + rotation.first(i) * panel_tokens;
    const T* b_row = keys + rotation.second(i) * panel_tokens;
    const float cos = rotation.cos[i] * inverse, sin = rotation.sin[i] * inverse;
    for (std::int32_t t = 0; t < n; ++t) {
      const std::int32_t slot = key_slot(first + t, keys);
      const float a = widen(a_row[slot]), b = widen(b_row[slot]);
      x[t * stride + i] = a * cos + b * sin;
      x[t * stride + i + rotation.half] = b * cos - a * sin;
    }
  }
}

template <class T>
void scatter_keys(const float* x, std::int64_t stride, std::int32_t first, std::int32_t n,
                  const Rotation& rotation, T* keys) {
  for (std::int32_t i = 0; i < rotation.half; ++i) {
    T* a_row = keys + rotation.first(i) * panel_tokens;
    T* b_row = keys + rotation.second(i) * panel_tokens;
    const float cos = rotation.cos[i] * rotation.magnitude, sin = rotation.sin[i] * rotation.magnitude;
    for (std::int32_t t = 0; t < n; ++t) {
      const std::int32_t slot = key_slot(first + t, keys);
      const float a = x[t * stride + i], b = x[t * stride + i + rotation.half];
      store(a * cos - b * sin, a_row + slot);
      store(a * sin + b * cos, b_row + slot);
    }
  }
}

/// The share of one task: some tokens of one head of one layer.
struct Share {
  const LayerPages* layer = nullptr;
  std::int32_t page = 0, head = 0;
  std::int32_t token = 0;    // of the first in the page
  std::int32_t n = 0;        // tokens, all in one panel
  std::int64_t channel = 0;  // of the head's keys in a row
  std::int64_t values = 0;   // from there to the channel of its values
  std::int64_t stride = 0;   // channels of a row
};

template <class T>
void gather_share(const Share& share, const Rotation& rotation, float* x) {
  const HeadBlock<T> block = head_block<T>(*share.layer, share.page, share.head);
  const std::int32_t head_dim = 2 * rotation.half, in_panel = share.token % panel_tokens;
  gather_keys<T>(block.keys + (share.token - in_panel) * head_dim, in_panel, share.n, rotation,
                 x + share.channel, share.stride);
  for (std::int32_t t = 0; t < share.n; ++t) {
    const T* from = block.values + (share.token + t) * head_dim;
    float* to = x + t * share.stride + share.channel + share.values;
    for (std::int32_t i = 0; i < head_dim; ++i) to[i] = widen(from[i]);
  }
}

template <class T>
void scatter_share(const Share& share, const Rotation& rotation, const float* x) {
  const HeadBlock<T> block = head_block<T>(*share.layer, share.page, share.head);
  const std::int32_t head_dim = 2 * rotation.half, in_panel = share.token % panel_tokens;
  scatter_keys<T>(x + share.channel, share.stride, in_panel, share.n, rotation,
                  block.keys + (share.token - in_panel) * head_dim);
  for (std::int32_t t = 0; t < share.n; ++t) {
    const float* from = x + t * share.stride + share.channel + share.values;
    T* to = block.values + (share.token + t) * head_dim;
    for (std::int32_t i = 0; i < head_dim; ++i) store(from[i], to + i);
  }
}

/// The same into a unit of residents. Tokens are lanes: each has its own scale.
/// key: [head_dim, 16], scratch
void scatter_resident(const Share& share, const Rotation& rotation, const float* x, float* key) {
  const std::int32_t head_dim = 2 * rotation.half;
  const std::int32_t unit = share.page * page_units + share.token / unit_tokens;
  const ResidentHead to = resident_head(*share.layer, unit, share.head);
  float largest[unit_tokens] = {}, inverse[unit_tokens];
  for (std::int32_t i = 0; i < rotation.half; ++i) {
    float* a_row = key + rotation.first(i) * unit_tokens;
    float* b_row = key + rotation.second(i) * unit_tokens;
    const float cos = rotation.cos[i] * rotation.magnitude, sin = rotation.sin[i] * rotation.magnitude;
    const float* from = x + share.channel + i;
    for (std::int32_t t = 0; t < unit_tokens; ++t) {
      const float a = from[t * share.stride], b = from[t * share.stride + rotation.half];
      a_row[t] = a * cos - b * sin;
      b_row[t] = a * sin + b * cos;
      largest[t] = std::max(largest[t], std::max(std::abs(a_row[t]), std::abs(b_row[t])));
    }
  }
  for (std::int32_t t = 0; t < unit_tokens; ++t) {
    const I8Scale scale = i8_scale(largest[t]);
    to.key_scales[t] = scale.stored;
    inverse[t] = scale.inverse;
  }
  for (std::int32_t i = 0; i < head_dim; ++i) {
    for (std::int32_t t = 0; t < unit_tokens; ++t) {
      to.keys[i * unit_tokens + t] = i8_code(key[i * unit_tokens + t], inverse[t]);
    }
  }
  for (std::int32_t t = 0; t < unit_tokens; ++t) {
    const float* from = x + t * share.stride + share.channel + share.values;
    float most[8] = {};  // a single one would not become SIMD
    for (std::int32_t i = 0; i + 8 <= head_dim; i += 8) {
      for (std::int32_t k = 0; k < 8; ++k) most[k] = std::max(most[k], std::abs(from[i + k]));
    }
    float all = *std::max_element(most, most + 8);
    for (std::int32_t i = head_dim / 8 * 8; i < head_dim; ++i) all = std::max(all, std::abs(from[i]));
    const I8Scale scale = i8_scale(all);
    to.value_scales[t] = scale.stored;
    for (std::int32_t first = 0; first < head_dim; first += dim_block) {
      const std::int32_t half = block_dims(first, head_dim) / 2;
      std::int8_t* even = to.values + t * head_dim + first;
      for (std::int32_t i = 0; i < half; ++i) {
        even[i] = i8_code(from[first + 2 * i], scale.inverse);
        even[half + i] = i8_code(from[first + 2 * i + 1], scale.inverse);
      }
    }
  }
}

/// Calls body(piece, share, thread) for all heads of all layers of each of `n_pieces` pieces of a page,
/// `piece_tokens` tokens each; page and token are for the body to fill in. A task is one layer of one piece.
template <class Body>
void for_shares(const PageFrame& frame, std::int64_t n_pieces, std::int32_t piece_tokens, ThreadPool& pool,
                const Body& body) {
  const KvLayout& layout = frame.layers[0].layout;
  const auto n_layers = static_cast<std::int64_t>(frame.layers.size());
  const std::int64_t kv_dim = std::int64_t{layout.n_kv_heads} * layout.head_dim;
  pool.parallel_for(n_pieces * n_layers, [&](std::int64_t task, int thread) {
    const std::int64_t layer = task % n_layers;
    for (std::int32_t head = 0; head < layout.n_kv_heads; ++head) {
      body(task / n_layers,
           Share{.layer = &frame.layers[static_cast<std::size_t>(layer)],
                 .head = head,
                 .n = piece_tokens,
                 .channel = layer * kv_dim + head * layout.head_dim,
                 .values = n_layers * kv_dim,
                 .stride = 2 * n_layers * kv_dim},
           thread);
    }
  });
}

}  // namespace

void gather_pages(const GatherPagesParams& params, ThreadPool& pool) {
  if (params.pages.empty()) return;
  const KvLayout& layout = params.frame.layers[0].layout;
  constexpr std::int64_t panels = page_tokens / panel_tokens;
  const auto n_panels = static_cast<std::int64_t>(params.pages.size()) * panels;
  for_shares(params.frame, n_panels, panel_tokens, pool, [&](std::int64_t panel, Share share, int) {
    const std::int64_t page = panel / panels;
    share.page = params.pages[static_cast<std::size_t>(page)];
    share.token = static_cast<std::int32_t>(panel % panels) * panel_tokens;
    const Rotation rotation(params.frame, layout.head_dim, params.cos_sin + page * layout.head_dim);
    float* x = params.x + panel * panel_tokens * share.stride;
    layout.element == KvElement::bf16 ? gather_share<std::uint16_t>(share, rotation, x)
                                      : gather_share<float>(share, rotation, x);
  });
}

void scatter_units(const ScatterUnitsParams& params, ThreadPool& pool) {
  if (params.units.empty()) return;
  const KvLayout& layout = params.frame.layers[0].layout;
  // Two units of one panel share cache lines of keys; they are written by whoever takes them, byte by byte
  // apart, so the result is the same.
  const auto n_units = static_cast<std::int64_t>(params.units.size());
  std::vector<float> keys(static_cast<std::size_t>(pool.size() * unit_tokens * layout.head_dim));
  for_shares(params.frame, n_units, unit_tokens, pool, [&](std::int64_t unit, Share share, int thread) {
    const std::int32_t id = params.units[static_cast<std::size_t>(unit)];
    share.page = id / page_units;
    share.token = id % page_units * unit_tokens;
    const Rotation rotation(params.frame, layout.head_dim, params.cos_sin + unit * layout.head_dim);
    const float* x = params.x + unit * unit_tokens * share.stride;
    if (layout.element == KvElement::i8) {
      scatter_resident(share, rotation, x, keys.data() + thread * unit_tokens * layout.head_dim);
    } else if (layout.element == KvElement::bf16) {
      scatter_share<std::uint16_t>(share, rotation, x);
    } else {
      scatter_share<float>(share, rotation, x);
    }
  });
}

}  // namespace cga::cpu
