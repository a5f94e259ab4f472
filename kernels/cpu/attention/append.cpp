// Ops::append: new keys and values, rounded and put where page.h says. Every byte is written once, so the
// time goes to memory; plain loops suffice.
#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "base/half.h"
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/coded_page.h"
#include "kernels/cpu/attention/page.h"
#include "quant/hadamard.h"

namespace cga::cpu {
namespace {

/// Bytes below which a fork costs more than it gains.
constexpr std::int64_t serial_bytes = 16 << 10;

void store(float value, float* to) {
  *to = value;
}
void store(float value, std::uint16_t* to) {
  *to = f32_to_bf16(value);
}

/// Tokens [first, last) of a sequence, all heads.
template <class T>
void append_tokens(const AppendParams& params, const SequenceRows& sequence, std::int32_t first,
                   std::int32_t last) {
  const std::int32_t n_kv_heads = params.pages.layout.n_kv_heads, head_dim = params.pages.layout.head_dim;
  for (std::int32_t t = first; t < last; ++t) {
    const std::int32_t position = sequence.position + t;
    const std::int32_t in_page = position % page_tokens;
    const std::int32_t in_panel = in_page % panel_tokens;
    const std::int32_t page = sequence.pages[static_cast<std::size_t>(position / page_tokens)];
    for (std::int32_t h = 0; h < n_kv_heads; ++h) {
      const std::int64_t from = (std::int64_t{sequence.first_row + t} * n_kv_heads + h) * head_dim;
      const HeadBlock<T> block = head_block<T>(params.pages, page, h);
      T* value = block.values + in_page * head_dim;                                            // [head_dim]
      T* key = block.keys + (in_page - in_panel) * head_dim + key_slot(in_panel, block.keys);  // stride 32
      for (std::int32_t i = 0; i < head_dim; ++i) store(params.v[from + i], value + i);
      for (std::int32_t i = 0; i < head_dim; ++i) store(params.k[from + i], key + i * panel_tokens);
    }
  }
}

/// The same for pages of blocks. A token's blocks depend on its own values only; of a byte of q4 keys, which
/// two tokens of a panel share, the other half is left as it is.
template <class Block>
void append_blocks(const AppendParams& params, const SequenceRows& sequence, std::int32_t first,
                   std::int32_t last) {
  const std::int32_t n_kv_heads = params.pages.layout.n_kv_heads, head_dim = params.pages.layout.head_dim;
  const std::int32_t n_blocks = head_dim / kv_block_values;
  std::vector<float> row(static_cast<std::size_t>(head_dim));
  const auto take = [&](const float* from) {
    std::copy_n(from, head_dim, row.data());
    if (params.pages.layout.element == KvElement::q4) hadamard(row.data(), head_dim);
  };
  for (std::int32_t t = first; t < last; ++t) {
    const std::int32_t position = sequence.position + t;
    const std::int32_t in_page = position % page_tokens;
    const std::int32_t page = sequence.pages[static_cast<std::size_t>(position / page_tokens)];
    for (std::int32_t h = 0; h < n_kv_heads; ++h) {
      const std::int64_t from = (std::int64_t{sequence.first_row + t} * n_kv_heads + h) * head_dim;
      const CodedHead<Block> head = coded_head<Block>(params.pages, page, h);
      take(params.v + from);
      for (std::int32_t i = 0; i < n_blocks; ++i) {
        encode_block(row.data() + i * kv_block_values, head.values[in_page * n_blocks + i]);
      }
      take(params.k + from);
      KeyTile<Block>* tiles = head.keys + in_page / panel_tokens * n_blocks;
      for (std::int32_t i = 0; i < n_blocks; ++i) {
        Block block;
        encode_block(row.data() + i * kv_block_values, block);
        tiles[i].put(in_page % panel_tokens, block);
      }
    }
  }
}

/// E: what pages hold: float, bf16 bits or blocks
template <class E>
void append_all(const AppendParams& params, ThreadPool& pool) {
  // Panels are cut at positions that are multiples of a panel: no two threads write one cache line.
  std::int64_t n_tokens = 0;
  for (const SequenceRows& sequence : params.sequences) n_tokens += sequence.n_tokens;
  const bool serial = n_tokens * params.pages.layout.page_bytes() / page_tokens < serial_bytes;
  for (const SequenceRows& sequence : params.sequences) {
    const std::int32_t skipped = sequence.position / panel_tokens;
    const std::int32_t end = sequence.position + sequence.n_tokens;
    const auto panel = [&](std::int64_t i, int) {
      const std::int32_t begin = (skipped + static_cast<std::int32_t>(i)) * panel_tokens;
      const std::int32_t first = std::max(begin, sequence.position) - sequence.position;
      const std::int32_t last = std::min(begin + panel_tokens, end) - sequence.position;
      if constexpr (std::is_arithmetic_v<E>) {
        append_tokens<E>(params, sequence, first, last);
      } else {
        append_blocks<E>(params, sequence, first, last);
      }
    };
    const std::int32_t n_panels = (end + panel_tokens - 1) / panel_tokens - skipped;
    if (serial) {
      for (std::int32_t i = 0; i < n_panels; ++i) panel(i, 0);
    } else {
      pool.parallel_for(n_panels, panel);
    }
  }
}

}  // namespace

void append(const AppendParams& params, ThreadPool& pool) {
  switch (params.pages.layout.element) {
    case KvElement::bf16:
      return append_all<std::uint16_t>(params, pool);
    case KvElement::f32:
      return append_all<float>(params, pool);
    case KvElement::q8:
      return append_all<BlockQ8_0>(params, pool);
    case KvElement::q4:
      return append_all<BlockQ4_0>(params, pool);
    case KvElement::i8:
      return;  // residents are scattered
  }
}

}  // namespace cga::cpu
