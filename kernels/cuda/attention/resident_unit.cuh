// Where a resident's vectors lie (KvElement::i8): units one after another, each whole, so that a unit is one
// range of codes and one of scales wherever it is.
//
//   codes   keys [n_kv_heads][16][head_dim], then values likewise       i8
//   scales  keys [n_kv_heads][16], then values likewise                 bf16
//
// A unit is 4 * (page id) + (unit in page), and offsets are bytes from LayerPages::base or ::scales.
#pragma once

#include <cstdint>

#include "base/host_device.h"
#include "tensor/kv_layout.h"

namespace cga::cuda {

/// A unit's keys, or its values, in vectors.
CGA_HOST_DEVICE constexpr std::int64_t resident_vectors(const KvLayout& layout) {
  return std::int64_t{layout.n_kv_heads} * unit_tokens;
}

/// The number of a vector among all of a layer.
CGA_HOST_DEVICE constexpr std::int64_t resident_key(const KvLayout& layout, std::int32_t unit,
                                                    std::int32_t head, std::int32_t token) {
  return 2 * resident_vectors(layout) * unit + head * unit_tokens + token;
}
CGA_HOST_DEVICE constexpr std::int64_t resident_value(const KvLayout& layout, std::int32_t unit,
                                                      std::int32_t head, std::int32_t token) {
  return resident_key(layout, unit, head, token) + resident_vectors(layout);
}

/// Codes of one vector: [head_dim], i8.
CGA_HOST_DEVICE constexpr std::int64_t key_offset(const KvLayout& layout, std::int32_t unit,
                                                  std::int32_t head, std::int32_t token) {
  return resident_key(layout, unit, head, token) * layout.head_dim;
}
CGA_HOST_DEVICE constexpr std::int64_t value_offset(const KvLayout& layout, std::int32_t unit,
                                                    std::int32_t head, std::int32_t token) {
  return resident_value(layout, unit, head, token) * layout.head_dim;
}

/// Its scale, bf16.
CGA_HOST_DEVICE constexpr std::int64_t key_scale_offset(const KvLayout& layout, std::int32_t unit,
                                                        std::int32_t head, std::int32_t token) {
  return resident_key(layout, unit, head, token) * 2;
}
CGA_HOST_DEVICE constexpr std::int64_t value_scale_offset(const KvLayout& layout, std::int32_t unit,
                                                          std::int32_t head, std::int32_t token) {
  return resident_value(layout, unit, head, token) * 2;
}

}  // namespace cga::cuda
