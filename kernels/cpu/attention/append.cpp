// Ops::append: new keys and values, rounded and put where page.h says. Every byte is written once, so the
// time goes to memory; plain loops suffice.
#include <algorithm>
#include <cstdint>

#include "base/half.h"
#include "kernels/cpu/attention/attention.h"
#include "kernels/cpu/attention/page.h"

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
  const auto [n_kv_heads, head_dim, element] = params.pages.layout;
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

template <class T>
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
      append_tokens<T>(params, sequence, std::max(begin, sequence.position) - sequence.position,
                       std::min(begin + panel_tokens, end) - sequence.position);
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
  if (params.pages.layout.element == KvElement::bf16) {
    append_all<std::uint16_t>(params, pool);
  } else {
    append_all<float>(params, pool);
  }
}

}  // namespace cga::cpu
