// A choice of units as a page: up to four of one head, brought together in the arrangement of page.h, so that
// the tiles need not know where they come from. It is a copy of what is in the first cache anyway.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "kernels/cpu/attention/page.h"

namespace cga::cpu {

/// Where a unit's keys are, in rows of panel_tokens for each dim, and which half of a row is the unit's.
template <class T>
struct UnitKeys {
  const T* rows = nullptr;
  std::int32_t half = 0;
};

/// One dim of two units side by side.
inline void join_halves(const UnitKeys<float>& a, const UnitKeys<float>& b, float* to) {
  std::copy_n(a.rows + a.half * unit_tokens, unit_tokens, to);
  std::copy_n(b.rows + b.half * unit_tokens, unit_tokens, to + unit_tokens);
}
inline void join_halves(const UnitKeys<std::uint16_t>& a, const UnitKeys<std::uint16_t>& b,
                        std::uint16_t* to) {
  const auto* low = reinterpret_cast<const std::uint32_t*>(a.rows);
  const auto* high = reinterpret_cast<const std::uint32_t*>(b.rows);
  auto* words = reinterpret_cast<std::uint32_t*>(to);
  const std::int32_t from_low = 16 * a.half, from_high = 16 * b.half;
  for (std::int32_t w = 0; w < panel_words; ++w) {
    words[w] = (low[w] >> from_low & 0xffffu) | (high[w] >> from_high << 16);
  }
}

/// @param units  1 to 4 of them
/// @param to     [2 * page_tokens * head_dim]; tokens of units that are not there are copies of others
template <class T>
HeadBlock<T> gather_units(const LayerPages& pages, std::span<const std::int32_t> units, std::int32_t kv_head,
                          T* to) {
  const std::int32_t head_dim = pages.layout.head_dim;
  const HeadBlock<T> gathered{to, to + page_tokens * head_dim};
  const auto n_units = static_cast<std::int32_t>(units.size());
  const auto keys_of = [&](std::int32_t index) {
    const std::int32_t unit = units[static_cast<std::size_t>(std::min(index, n_units - 1))];
    const T* keys = head_block<T>(pages, unit / page_units, kv_head).keys;
    const std::int32_t in_page = unit % page_units;
    return UnitKeys<T>{keys + std::int64_t{in_page / 2} * panel_tokens * head_dim, in_page % 2};
  };
  for (std::int32_t index = 0; index < n_units; ++index) {
    const std::int32_t unit = units[static_cast<std::size_t>(index)];
    const T* values = head_block<T>(pages, unit / page_units, kv_head).values;
    std::copy_n(values + unit % page_units * unit_tokens * head_dim, unit_tokens * head_dim,
                gathered.values + index * unit_tokens * head_dim);
    if (index % 2 == 1) continue;
    UnitKeys<T> a = keys_of(index), b = keys_of(index + 1);
    T* row = gathered.keys + index / 2 * panel_tokens * head_dim;
    for (std::int32_t i = 0; i < head_dim; ++i) {
      join_halves(a, b, row);
      a.rows += panel_tokens, b.rows += panel_tokens, row += panel_tokens;
    }
  }
  return gathered;
}

}  // namespace cga::cpu
