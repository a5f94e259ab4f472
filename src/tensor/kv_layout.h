// The shape of a page of exact keys and values. How a page is arranged inside is its backend's secret:
// only the ops append, attend and (later) seal read one.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cga {

inline constexpr std::int32_t page_tokens =
    64;  // what is sealed and coded at once; frame of the key rotation
inline constexpr std::int32_t unit_tokens = 16;  // what is selected and decoded

enum class KvElement : std::uint8_t { bf16, f32 };

struct KvLayout {
  std::int32_t n_kv_heads = 0;
  std::int32_t head_dim = 0;
  KvElement element = KvElement::bf16;

  std::int64_t element_bytes() const { return element == KvElement::bf16 ? 2 : 4; }
  /// Bytes of one layer's page: keys and values of page_tokens tokens, all KV heads.
  std::int64_t page_bytes() const {
    return std::int64_t{2} * page_tokens * n_kv_heads * head_dim * element_bytes();
  }
};

}  // namespace cga
