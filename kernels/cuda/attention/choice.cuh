// What a row attends to, position by position: pages, or a choice of units of which some may be residents and
// some nothing (SequenceRows::units). For kernels that read a token at a time.
#pragma once

#include "base/half.h"
#include "kernels/cuda/attention/page.cuh"
#include "kernels/cuda/attention/resident_unit.cuh"

namespace cga::cuda {

/// One token's key or value of one head.
template <KvElement element>
struct VectorAddress {
  UnitAddress unit;
  int token;                             // in the unit
  const std::int8_t* codes = nullptr;    // [head_dim], of a resident; else null
  const std::uint16_t* scale = nullptr;  // bf16, of a resident

  /// Dims dim (even) and dim + 1, as floats.
  __device__ float2 pair(int plane, int head_dim, int dim) const {
    if constexpr (element == KvElement::bf16) {  // residents are beside no other pages
      if (codes != nullptr) {
        const char2 code = reinterpret_cast<const char2*>(codes)[dim / 2];
        const float step = bf16_to_f32(*scale);
        return {step * static_cast<float>(code.x), step * static_cast<float>(code.y)};
      }
    }
    return load_pair<element>(unit, plane, head_dim, token, dim);
  }
};

template <KvElement element>
struct Choice {
  PageView<element> pages;
  Residents residents;
  const std::int32_t* ids;  // of the sequence
  bool units;               // ids are of units, else of pages

  /// The unit that holds a position, as SequenceRows::units names it.
  __device__ int unit_of(int position) const {
    if (units) return ids[position / unit_tokens];
    return ids[position / page_tokens] * 4 + position % page_tokens / unit_tokens;
  }

  /// @param unit   not no_unit
  /// @param plane  0: keys, 1: values
  /// @param token  in the unit
  __device__ VectorAddress<element> vector(int unit, int plane, int kv_head, int token) const {
    if constexpr (element == KvElement::bf16) {
      if (unit < 0) {
        const int id = resident_unit(unit);
        const KvLayout& layout = residents.layout;
        const std::int64_t number = plane == 0 ? resident_key(layout, id, kv_head, token)
                                               : resident_value(layout, id, kv_head, token);
        return {{},
                token,
                reinterpret_cast<const std::int8_t*>(residents.base) + number * layout.head_dim,
                reinterpret_cast<const std::uint16_t*>(residents.scales) + number};
      }
    }
    return {pages.unit(unit, plane, kv_head), token};
  }
};

}  // namespace cga::cuda
