// How this backend arranges a page of residents (KvElement::i8): unit by unit, as they are chosen, so that
// four of them anywhere are read where they are.
//
//   page     [n_kv_heads][4 units] x ( values [16][head_dim] | keys [head_dim][16] )     codes, int8
//   scales   [n_kv_heads][4 units] x ( keys [16] | values [16] )                         bf16
//
// Keys are dim-major, as in page.h. A value's dims stand in blocks of 32, the even ones of a block before the
// odd ones: two vectors of them widen to what a vector of bf16 widens to, whatever the vector length. A load
// past the last value's dims stays inside the unit.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace cga::cpu {

inline constexpr std::int32_t dim_block = 32;

/// One KV head's share of a unit.
struct ResidentHead {
  std::int8_t* keys;            // [head_dim, unit_tokens]
  std::int8_t* values;          // [unit_tokens, head_dim], dims in the order of dim_place()
  std::uint16_t* key_scales;    // [unit_tokens], bf16
  std::uint16_t* value_scales;  // [unit_tokens], bf16
};

/// @param unit  4 * (page id) + (unit in page)
inline ResidentHead resident_head(const LayerPages& pages, std::int32_t unit, std::int32_t kv_head) {
  const std::int64_t plane = std::int64_t{unit_tokens} * pages.layout.head_dim;
  const std::int64_t in_page = kv_head * page_units + unit % page_units;
  auto* codes = reinterpret_cast<std::int8_t*>(pages.base + unit / page_units * pages.layout.page_bytes() +
                                               in_page * 2 * plane);
  auto* scales =
      reinterpret_cast<std::uint16_t*>(pages.scales + unit / page_units * pages.layout.page_scale_bytes()) +
      in_page * 2 * unit_tokens;
  return {codes + plane, codes, scales, scales + unit_tokens};
}

/// Dims in the block that begins at `first`: 32, or an even number that is left.
inline std::int32_t block_dims(std::int32_t first, std::int32_t head_dim) {
  return std::min(dim_block, head_dim - first);
}

/// Where dim i of a value stands.
inline std::int32_t dim_place(std::int32_t i, std::int32_t head_dim) {
  const std::int32_t first = i / dim_block * dim_block, in_block = i - first;
  return first + in_block / 2 + in_block % 2 * (block_dims(first, head_dim) / 2);
}

}  // namespace cga::cpu
