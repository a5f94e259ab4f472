// A page of keys and values as this backend arranges it: [2 (keys, values), n_kv_heads, page_tokens,
// head_dim].
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "base/half.h"
#include "kernels/ops.h"

namespace cga::reference {

/// Finds one token's key or value vector inside its page.
class PageReader {
 public:
  /// @param ids  of the pages that hold positions 0 to 63, 64 to 127, …
  PageReader(const LayerPages& pages, std::span<const std::int32_t> ids) : pages_(pages), ids_(ids) {}

  /// @param plane  0: keys, 1: values
  std::byte* vector(int plane, std::int32_t kv_head, std::int32_t position) const {
    const KvLayout& layout = pages_.layout;
    const std::int64_t page = ids_[static_cast<std::size_t>(position / page_tokens)];
    const std::int64_t row = (static_cast<std::int64_t>(plane) * layout.n_kv_heads + kv_head) * page_tokens +
                             position % page_tokens;
    return pages_.base + page * layout.page_bytes() + row * layout.head_dim * layout.element_bytes();
  }

  void write(int plane, std::int32_t kv_head, std::int32_t position, const float* values) const {
    std::byte* to = vector(plane, kv_head, position);
    for (std::int32_t i = 0; i < pages_.layout.head_dim; ++i) {
      if (pages_.layout.element == KvElement::f32) {
        std::memcpy(to + 4 * i, values + i, 4);
      } else {
        const std::uint16_t half = f32_to_bf16(values[i]);
        std::memcpy(to + 2 * i, &half, 2);
      }
    }
  }

  float read(int plane, std::int32_t kv_head, std::int32_t position, std::int32_t i) const {
    const std::byte* from = vector(plane, kv_head, position);
    if (pages_.layout.element == KvElement::f32) {
      float value;
      std::memcpy(&value, from + 4 * i, 4);
      return value;
    }
    std::uint16_t half;
    std::memcpy(&half, from + 2 * i, 2);
    return bf16_to_f32(half);
  }

 private:
  const LayerPages& pages_;
  std::span<const std::int32_t> ids_;
};

}  // namespace cga::reference
