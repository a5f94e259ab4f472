// From one block to a weight type. A type's folder says how a single block is unpacked and packed; the loops
// over blocks, the arithmetic of integer codes and the WeightType entry are written once, here.
//
// A Block is a struct laid out as in the file, with two constants:
//   values    values a block
//   integer   its IntegerForm; bits = 0 for float types
// and, found by its type:
//   encode_block(values, block)            floats to a block
//   block_codes(block, q, scale, min)      integer types: a block to codes, scales and minima
//   decode_block(block, out)               float types: a block to floats
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/host_device.h"
#include "quant/weight_type.h"

namespace cga {

/// w = scale * (q - zero) - min, rounded after each operation: the order ggml computes in, so that every
/// program reads the same weights from a file.
template <class Block>
CGA_HOST_DEVICE inline void decode_block(const Block& block, float* out /* [Block::values] */) {
  constexpr IntegerForm form = Block::integer;
  constexpr int n_groups = Block::values / form.group;
  std::uint8_t q[Block::values];
  float scale[n_groups], min[n_groups];
  block_codes(block, q, scale, min);
  for (int g = 0; g < n_groups; ++g) {
    for (int i = g * form.group; i < (g + 1) * form.group; ++i) {
      const float product = scale[g] * static_cast<float>(q[i] - form.zero);
      out[i] = form.has_min ? product - min[g] : product;
    }
  }
}

template <class Block>
void decode_blocks(const std::byte* blocks, std::int64_t n_blocks, float* out) {
  const auto* block = reinterpret_cast<const Block*>(blocks);
  for (std::int64_t i = 0; i < n_blocks; ++i) decode_block(block[i], out + i * Block::values);
}

template <class Block>
void encode_blocks(const float* values, std::int64_t n_blocks, std::byte* out) {
  auto* block = reinterpret_cast<Block*>(out);
  for (std::int64_t i = 0; i < n_blocks; ++i) encode_block(values + i * Block::values, block[i]);
}

template <class Block>
void codes_of_block(const std::byte* block, std::uint8_t* q, float* scale, float* min) {
  block_codes(*reinterpret_cast<const Block*>(block), q, scale, min);
}

template <class Block>
constexpr WeightType make_weight_type(std::string_view name, std::uint32_t gguf_id) {
  WeightType type;
  type.name = name;
  type.gguf_id = gguf_id;
  type.block_values = Block::values;
  type.block_bytes = sizeof(Block);
  type.integer = Block::integer;
  type.decode = &decode_blocks<Block>;
  type.encode = &encode_blocks<Block>;
  if constexpr (Block::integer.bits > 0) type.codes = &codes_of_block<Block>;
  return type;
}

}  // namespace cga
