// The shape of a page of exact keys and values, and what they are rounded to. How a page is arranged inside
// is its backend's secret: only the ops that read and write pages know.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cga {

inline constexpr std::int32_t page_tokens =
    64;  // what is sealed and coded at once; frame of the key rotation
inline constexpr std::int32_t unit_tokens = 16;  // what is selected and decoded

/// How a value of a key or value vector is kept.
///   bf16, f32   each value by itself
///   q8, q4      32 values along head_dim together, as the weight types Q8_0 (34 bytes) and Q4_0 (18 bytes)
///               round them (src/quant); head_dim must be a multiple of 32. The 4-bit blocks hold each vector
///               after hadamard() (quant/hadamard.h), which spreads outliers over the head and leaves scores
///               as they are. Blocks hold finite values only.
///   i8          a whole vector together (tensor/i8_vector.h): a code of a byte a value, in the page, and a
///               scale in bf16, beside it. Of residents only: written by scatter_units, finite values. Its
///               pages take half of what those of bf16 take, so that memory may hold both.
enum class KvElement : std::uint8_t { bf16, f32, q8, q4, i8 };

inline constexpr std::int32_t kv_block_values = 32;  // that share a scale in q8 and q4

inline bool is_block_coded(KvElement element) {
  return element == KvElement::q8 || element == KvElement::q4;
}

struct KvLayout {
  std::int32_t n_kv_heads = 0;
  std::int32_t head_dim = 0;
  KvElement element = KvElement::bf16;

  /// Bytes of one token's key (or value) of one head; of i8 without its scale.
  std::int64_t vector_bytes() const {
    switch (element) {
      case KvElement::f32:
        return std::int64_t{4} * head_dim;
      case KvElement::q8:
        return head_dim / kv_block_values * 34;
      case KvElement::q4:
        return head_dim / kv_block_values * 18;
      case KvElement::i8:
        return head_dim;
      case KvElement::bf16:
        break;
    }
    return std::int64_t{2} * head_dim;
  }
  /// Bytes of one layer's page: keys and values of page_tokens tokens, all KV heads.
  std::int64_t page_bytes() const { return std::int64_t{2} * page_tokens * n_kv_heads * vector_bytes(); }
  /// Bytes of the scales that lie beside one layer's page of i8.
  std::int64_t page_scale_bytes() const {
    return element == KvElement::i8 ? std::int64_t{2} * page_tokens * n_kv_heads * 2 : 0;
  }
};

}  // namespace cga
