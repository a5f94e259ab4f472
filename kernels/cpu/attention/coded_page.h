// How this backend arranges a page of q8 or q4: as page.h has it for floats, with blocks in the place of
// values.
//
//   page      [n_kv_heads] x ( values [64][head_dim / 32] blocks | keys [2][head_dim / 32] tiles )
//
// Values are token-major: a block is 32 dims of one token, as the weight types have them. Keys are dim-major
// in panels of 32 tokens, cut into tiles of 32 dims: the scales of the 32 blocks that cross a tile, then
// their codes row by row, a row being one dim of 32 tokens. A tile takes what its blocks take, and unpacks
// into a panel of floats (unpack-inl.h) without a transposition.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/attention/page.h"
#include "quant/nibbles.h"
#include "quant/q4_0/block.h"
#include "quant/q8_0/block.h"

namespace cga::cpu {

template <class Block>
struct KeyTile;

template <>
struct KeyTile<BlockQ8_0> {
  std::uint16_t scale[panel_tokens];                // f16
  std::int8_t code[kv_block_values][panel_tokens];  // [dim][token]
  void put(std::int32_t token, const BlockQ8_0& block) {
    scale[token] = block.scale;
    for (std::int32_t i = 0; i < kv_block_values; ++i) code[i][token] = block.code[i];
  }
};
static_assert(sizeof(KeyTile<BlockQ8_0>) == panel_tokens * sizeof(BlockQ8_0));

template <>
struct KeyTile<BlockQ4_0> {
  std::uint16_t scale[panel_tokens];                // f16
  std::uint8_t code[kv_block_values][panel_words];  // [dim][tokens i (low half) and i + 16]
  void put(std::int32_t token, const BlockQ4_0& block) {
    std::uint8_t q[kv_block_values];
    unpack_nibbles(block.packed, q);
    scale[token] = block.scale;
    const std::int32_t shift = token / panel_words * 4;
    for (std::int32_t i = 0; i < kv_block_values; ++i) {
      std::uint8_t& pair = code[i][token % panel_words];
      pair = static_cast<std::uint8_t>((pair & (0xf0 >> shift)) | (q[i] << shift));
    }
  }
};
static_assert(sizeof(KeyTile<BlockQ4_0>) == panel_tokens * sizeof(BlockQ4_0));

/// One KV head's share of a page.
template <class Block>
struct CodedHead {
  Block* values;         // [page_tokens, head_dim / 32]
  KeyTile<Block>* keys;  // [page_tokens / panel_tokens, head_dim / 32]
};

template <class Block>
CodedHead<Block> coded_head(const LayerPages& pages, std::int32_t page, std::int32_t kv_head) {
  const std::int64_t plane = page_tokens * pages.layout.vector_bytes();
  std::byte* values = pages.base + page * pages.layout.page_bytes() + 2 * plane * kv_head;
  return {reinterpret_cast<Block*>(values), reinterpret_cast<KeyTile<Block>*>(values + plane)};
}

}  // namespace cga::cpu
