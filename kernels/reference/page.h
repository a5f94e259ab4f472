// A page of keys and values as this backend arranges it: [2 (keys, values), n_kv_heads, page_tokens,
// head_dim], each vector in one piece; and scales, if there are any, [2, n_kv_heads, page_tokens].
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "base/half.h"
#include "kernels/ops.h"
#include "quant/hadamard.h"
#include "quant/q4_0/decode.h"
#include "quant/q8_0/decode.h"
#include "tensor/i8_vector.h"

namespace cga::reference {

/// Finds, reads and writes one token's key or value vector inside its page.
class PageReader {
 public:
  /// @param ids  of the pages that hold positions 0 to 63, 64 to 127, …
  PageReader(const LayerPages& pages, std::span<const std::int32_t> ids) : pages_(pages), ids_(ids) {}

  /// What a row of a batch attends to, by pages or by units.
  PageReader(const LayerPages& pages, const LayerPages& residents, const SequenceRows& rows)
      : pages_(pages), residents_(residents), ids_(rows.pages), units_(rows.units) {}

  /// Whether there is a token at a position at all.
  bool has(std::int32_t position) const {
    return units_.empty() || units_[static_cast<std::size_t>(position / unit_tokens)] != no_unit;
  }

  /// Rounds and stores a vector.
  /// @param plane   0: keys, 1: values
  /// @param values  [head_dim]
  void write(int plane, std::int32_t kv_head, std::int32_t position, const float* values) const {
    const KvLayout& layout = pages_.layout;
    const Place place = find(plane, kv_head, position);
    std::byte* to = place.vector;
    switch (layout.element) {
      case KvElement::f32:
        std::memcpy(to, values, static_cast<std::size_t>(layout.vector_bytes()));
        break;
      case KvElement::bf16:
        for (std::int32_t i = 0; i < layout.head_dim; ++i) {
          const std::uint16_t half = f32_to_bf16(values[i]);
          std::memcpy(to + 2 * i, &half, 2);
        }
        break;
      case KvElement::q8:
        write_blocks<BlockQ8_0>(values, to);
        break;
      case KvElement::q4: {
        std::vector<float> turned(values, values + layout.head_dim);
        hadamard(turned.data(), layout.head_dim);
        write_blocks<BlockQ4_0>(turned.data(), to);
        break;
      }
      case KvElement::i8: {
        float largest = 0.0f;
        for (std::int32_t i = 0; i < layout.head_dim; ++i) largest = std::max(largest, std::abs(values[i]));
        const I8Scale scale = i8_scale(largest);
        std::memcpy(place.scale, &scale.stored, 2);
        for (std::int32_t i = 0; i < layout.head_dim; ++i) {
          to[i] = static_cast<std::byte>(i8_code(values[i], scale.inverse));
        }
      }
    }
  }

  /// A vector as it is stored: that of q4 is still transformed.
  /// @param out  [head_dim]
  void read(int plane, std::int32_t kv_head, std::int32_t position, float* out) const {
    const Place place = find(plane, kv_head, position);
    const KvLayout& layout = place.pages->layout;
    const std::byte* from = place.vector;
    switch (layout.element) {
      case KvElement::f32:
        std::memcpy(out, from, static_cast<std::size_t>(layout.vector_bytes()));
        break;
      case KvElement::bf16:
        for (std::int32_t i = 0; i < layout.head_dim; ++i) {
          std::uint16_t half;
          std::memcpy(&half, from + 2 * i, 2);
          out[i] = bf16_to_f32(half);
        }
        break;
      case KvElement::q8:
        read_blocks<BlockQ8_0>(from, out);
        break;
      case KvElement::q4:
        read_blocks<BlockQ4_0>(from, out);
        break;
      case KvElement::i8: {
        std::uint16_t scale;
        std::memcpy(&scale, place.scale, 2);
        for (std::int32_t i = 0; i < layout.head_dim; ++i) {
          out[i] = static_cast<float>(static_cast<std::int8_t>(from[i])) * bf16_to_f32(scale);
        }
      }
    }
  }

 private:
  struct Place {
    const LayerPages* pages;
    std::byte* vector;
    std::byte* scale;  // [2], of i8
  };

  Place find(int plane, std::int32_t kv_head, std::int32_t position) const {
    const LayerPages* pages = &pages_;
    std::int64_t page, token;
    if (units_.empty()) {
      page = ids_[static_cast<std::size_t>(position / page_tokens)];
      token = position % page_tokens;
    } else {
      std::int32_t unit = units_[static_cast<std::size_t>(position / unit_tokens)];
      if (unit < 0) {
        unit = resident_unit(unit);
        pages = &residents_;
      }
      page = unit / page_units;
      token = unit % page_units * unit_tokens + position % unit_tokens;
    }
    const KvLayout& layout = pages->layout;
    const std::int64_t row =
        (static_cast<std::int64_t>(plane) * layout.n_kv_heads + kv_head) * page_tokens + token;
    return {pages, pages->base + page * layout.page_bytes() + row * layout.vector_bytes(),
            pages->scales + page * layout.page_scale_bytes() + row * 2};
  }

  template <class Block>
  void write_blocks(const float* values, std::byte* to) const {
    for (std::int32_t i = 0; i < pages_.layout.head_dim; i += Block::values, to += sizeof(Block)) {
      Block block;
      encode_block(values + i, block);
      std::memcpy(to, &block, sizeof block);
    }
  }

  template <class Block>
  void read_blocks(const std::byte* from, float* out) const {
    for (std::int32_t i = 0; i < pages_.layout.head_dim; i += Block::values, from += sizeof(Block)) {
      Block block;
      std::memcpy(&block, from, sizeof block);
      decode_block(block, out + i);
    }
  }

  const LayerPages& pages_;
  LayerPages residents_ = {};
  std::span<const std::int32_t> ids_, units_;
};

}  // namespace cga::reference
