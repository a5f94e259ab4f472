// One head's share of a q8 or q4 page to floats in the arrangement of page.h, once per SIMD target. The
// products are those of decode_block, so every backend attends to the same numbers. Included by attend.cpp
// only, through foreach_target.h.
#if defined(CGA_ATTENTION_UNPACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_ATTENTION_UNPACK_INL_H_
#undef CGA_ATTENTION_UNPACK_INL_H_
#else
#define CGA_ATTENTION_UNPACK_INL_H_
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

#include "base/half.h"
#include "kernels/cpu/attention/coded_page.h"
#include "kernels/cpu/attention/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

using I = hn::RebindToSigned<F>;

/// Codes [at, at + lanes) of 32, and those 16 further on, without their zero.
HWY_INLINE Pair load_codes(const std::int8_t* codes, std::int32_t at) {
  const hn::Rebind<std::int8_t, F> bytes;
  return {hn::ConvertTo(F(), hn::PromoteTo(I(), hn::LoadU(bytes, codes + at))),
          hn::ConvertTo(F(), hn::PromoteTo(I(), hn::LoadU(bytes, codes + at + 16)))};
}
HWY_INLINE Pair load_codes(const std::uint8_t* codes, std::int32_t at) {
  const hn::Rebind<std::uint8_t, F> bytes;
  const auto both = hn::PromoteTo(I(), hn::LoadU(bytes, codes + at));
  const auto zero = hn::Set(I(), BlockQ4_0::integer.zero);
  return {hn::ConvertTo(F(), hn::Sub(hn::And(both, hn::Set(I(), 0x0f)), zero)),
          hn::ConvertTo(F(), hn::Sub(hn::ShiftRight<4>(both), zero))};
}

HWY_INLINE const std::int8_t* codes_of(const BlockQ8_0& block) {
  return block.code;
}
HWY_INLINE const std::uint8_t* codes_of(const BlockQ4_0& block) {
  return block.packed;
}

/// @param to  [32 dims, panel_tokens]
template <class Block>
HWY_INLINE void unpack_keys(const KeyTile<Block>& tile, float* to, std::ptrdiff_t ahead) {
  const F f;
  HWY_ALIGN float scale[panel_tokens];
  prefetch(tile.scale, ahead);
  for (std::int32_t t = 0; t < panel_tokens; ++t) scale[t] = f16_to_f32(tile.scale[t]);
  for (std::int32_t i = 0; i < kv_block_values; ++i, to += panel_tokens) {
    prefetch(tile.code[i], ahead);
    for (std::int32_t word = 0; word < panel_words; word += lanes) {
      const Pair codes = load_codes(tile.code[i], word);
      hn::StoreU(hn::Mul(codes.lo, hn::LoadU(f, scale + word)), f, to + word);
      hn::StoreU(hn::Mul(codes.hi, hn::LoadU(f, scale + panel_words + word)), f, to + panel_words + word);
    }
  }
}

/// @param to  [32]
template <class Block>
HWY_INLINE void unpack_value(const Block& block, float* to, std::ptrdiff_t ahead) {
  prefetch(&block, ahead);
  const auto scale = hn::Set(F(), f16_to_f32(block.scale));
  for (std::int32_t i = 0; i < 16; i += lanes) {
    const Pair codes = load_codes(codes_of(block), i);
    hn::StoreU(hn::Mul(codes.lo, scale), F(), to + i);
    hn::StoreU(hn::Mul(codes.hi, scale), F(), to + 16 + i);
  }
}

/// The first n_tokens of a head's values, and the panels of keys that hold them.
/// @param to  [2 * page_tokens * head_dim], as HeadBlock<float>
template <class Block>
HWY_NOINLINE HeadBlock<float> unpack_head(const CodedHead<Block>& from, std::int32_t head_dim,
                                          std::int32_t n_tokens, float* to, std::ptrdiff_t ahead) {
  const HeadBlock<float> unpacked{to, to + page_tokens * head_dim};
  const std::int32_t n_blocks = head_dim / kv_block_values;
  for (std::int32_t i = 0; i < n_tokens * n_blocks; ++i) {
    unpack_value(from.values[i], unpacked.values + i * kv_block_values, ahead);
  }
  const std::int32_t n_panels = (n_tokens + panel_tokens - 1) / panel_tokens;
  for (std::int32_t i = 0; i < n_panels * n_blocks; ++i) {
    unpack_keys(from.keys[i], unpacked.keys + i * kv_block_values * panel_tokens, ahead);
  }
  return unpacked;
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_ATTENTION_UNPACK_INL_H_
