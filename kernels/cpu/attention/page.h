// How this backend arranges a page: where a KV head's values and keys lie, and where one element is.
//
//   page      [n_kv_heads] x ( values [64][head_dim] | keys [2][head_dim][32] )
//
// Values are token-major: a weighted sum runs along the dims. Keys are dim-major in two panels of 32 tokens:
// a vector of scores runs along the tokens, so no score is summed across lanes, and one conversion to f32
// serves every query row. A panel's row of 32 bf16 is one cache line. In it, the 32-bit word i holds tokens i
// (low half) and i + 16 (high half): a shift and a mask widen one load to two vectors of consecutive tokens,
// whatever the vector length. Values come before keys so that a load past the last token's dims stays inside
// the head's block.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace cga::cpu {

inline constexpr std::int32_t panel_tokens = 32;
inline constexpr std::int32_t panel_words = panel_tokens / 2;

/// One KV head's share of a page.  T: std::uint16_t (bf16 bits) or float
template <class T>
struct HeadBlock {
  T* values;  // [page_tokens, head_dim]
  T* keys;    // [page_tokens / panel_tokens, head_dim, panel_tokens]
};

template <class T>
HeadBlock<T> head_block(const LayerPages& pages, std::int32_t page, std::int32_t kv_head) {
  const std::int64_t plane = std::int64_t{page_tokens} * pages.layout.head_dim;
  T* values = reinterpret_cast<T*>(pages.base + page * pages.layout.page_bytes()) + 2 * plane * kv_head;
  return {values, values + plane};
}

/// Where token t of a panel, in [0, panel_tokens), stands in each of the panel's rows.
inline std::int32_t key_slot(std::int32_t t, const float*) {
  return t;
}
inline std::int32_t key_slot(std::int32_t t, const std::uint16_t*) {
  return t % panel_words * 2 + t / panel_words;
}

}  // namespace cga::cpu
