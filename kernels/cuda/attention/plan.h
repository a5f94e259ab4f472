// How attention is cut into CTAs: pure functions that host and device share, header only so that they can be
// tested where there is no CUDA.
//
// Decoding cuts a sequence into splits. Their size follows from the sequence's own length and the model
// alone, so that neither neighbours nor the grid's upper bound change a result. The CTA that is the last to
// finish merges them: at most 32, because one CTA that merged all of 256 would take as long as a tenth of the
// reading. More are merged in two levels, groups of 16 while other CTAs still read pages, then the groups.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "base/host_device.h"
#include "tensor/kv_layout.h"

namespace cga::cuda {

inline constexpr std::int32_t most_merged = 32;  // states that one CTA merges
inline constexpr std::int32_t merge_group = 16;  // splits of a group, where there are more
inline constexpr std::int32_t most_splits = merge_group * merge_group;
inline constexpr std::int32_t launch_sequences = 256;  // of one launch; more sequences take more launches
inline constexpr std::int32_t tile_heads = 8;          // query heads of a decoding CTA: N of mma.m16n8k16

/// CTAs of the decoding kernels a multiprocessor of 9.0: 3 or 4, as registers and shared memory allow. Splits
/// follow from it, so it is the same on every device; where shared memory is short, fewer run at once.
inline constexpr std::int32_t most_ctas = 4;

/// The most splits of long sequences.
/// @param n_tiles  tiles of heads a sequence
/// @param ctas     a multiprocessor
CGA_HOST_DEVICE constexpr std::int32_t long_splits(std::int32_t n_tiles, std::int32_t ctas) {
  const std::int32_t enough = 128 * ctas / n_tiles;  // an H100 has 132 multiprocessors
  return enough < most_merged ? most_merged : enough > most_splits ? most_splits : enough;
}

/// Tokens a split of a sequence of `length` tokens, a multiple of page_tokens. Up to 512 tokens are not worth
/// a merge; up to 16384 a merge of two levels is not worth the parallelism; longer ones are cut for all their
/// CTAs to run at once, since beginning and ending one costs as much as reading some hundred tokens.
/// @param most  long_splits
CGA_HOST_DEVICE constexpr std::int32_t split_tokens(std::int32_t length, std::int32_t most) {
  if (length <= 512) return 512;
  if (length <= 2048) return 128;
  if (length <= 8192) return 256;
  if (length <= 16384) return 512;
  const std::int32_t tokens = (length + most - 1) / most;
  return tokens <= 512 ? 512 : (tokens + page_tokens - 1) / page_tokens * page_tokens;
}

CGA_HOST_DEVICE constexpr std::int32_t n_splits(std::int32_t length, std::int32_t most) {
  const std::int32_t tokens = split_tokens(length, most);
  return (length + tokens - 1) / tokens;
}

/// The most splits a sequence of up to `max_length` tokens has. Not n_splits(max_length): that falls wherever
/// split_tokens grows.
CGA_HOST_DEVICE constexpr std::int32_t max_splits(std::int32_t max_length, std::int32_t most) {
  std::int32_t bound = n_splits(max_length, most);
  for (const std::int32_t last : {2048, 8192}) {  // the longest with splits of 128, of 256
    if (last < max_length && n_splits(last, most) > bound) bound = n_splits(last, most);
  }
  return 512 * most < max_length ? most : bound;
}

/// Tiles of up to tile_heads query heads that a row of a sequence makes.
CGA_HOST_DEVICE constexpr std::int32_t decode_tiles(std::int32_t n_kv_heads, std::int32_t group) {
  return n_kv_heads * ((group + tile_heads - 1) / tile_heads);
}

/// Where a decoding CTA leaves what it computed: the workspace holds counters, then (m, l) and then sums of
/// every (sequence, slot, query head). A sequence's slots are its splits, then its merged groups of splits.
struct DecodeWorkspace {
  std::int32_t n_heads, head_dim, n_sequences /* <= launch_sequences */, n_slots;

  static constexpr std::int32_t counters = 1 + merge_group;  // a (sequence, tile of heads): all, groups

  /// @param splits  max_splits
  CGA_HOST_DEVICE constexpr DecodeWorkspace(std::int32_t heads, std::int32_t dim, std::int32_t sequences,
                                            std::int32_t splits)
      : n_heads(heads),
        head_dim(dim),
        n_sequences(sequences),
        n_slots(splits + (splits > most_merged ? merge_group : 0)) {}
  /// A tile of heads has at least one head, hence at most n_heads tiles. Where counters lie must depend on
  /// nothing that changes from call to call: they have to be zero when a call begins.
  CGA_HOST_DEVICE constexpr std::int64_t counter(std::int32_t sequence, std::int32_t tile) const {
    return (std::int64_t{sequence} * n_heads + tile) * counters;
  }
  CGA_HOST_DEVICE constexpr std::int64_t vector(std::int32_t sequence, std::int32_t slot,
                                                std::int32_t head) const {
    return (std::int64_t{sequence} * n_slots + slot) * n_heads + head;
  }
  /// Bytes before the states, before the sums, and of all.
  CGA_HOST_DEVICE constexpr std::int64_t state_offset() const {
    return (counter(launch_sequences, 0) * 4 + 15) / 16 * 16;
  }
  CGA_HOST_DEVICE constexpr std::int64_t sum_offset() const {
    return state_offset() + (vector(n_sequences, 0, 0) * 8 + 15) / 16 * 16;
  }
  CGA_HOST_DEVICE constexpr std::int64_t bytes() const {
    return sum_offset() + vector(n_sequences, 0, 0) * head_dim * 4;
  }
};

/// A prompt's tile: rows that share pages, (token, query head of one KV head) in this order: 128 or 64.
/// A tile has rows / group whole tokens; 64 rows must hold one.
inline constexpr std::int32_t most_group = 64;

/// Tiles of one sequence, of `tokens` tokens each.
CGA_HOST_DEVICE constexpr std::int32_t n_tiles(std::int32_t n_tokens, std::int32_t tokens) {
  return (n_tokens + tokens - 1) / tokens;
}

/// The most tiles that n_rows rows of n_sequences sequences make.
CGA_HOST_DEVICE constexpr std::int32_t max_tiles(std::int32_t n_rows, std::int32_t n_sequences,
                                                 std::int32_t tokens) {
  return n_rows / tokens + n_sequences;
}

/// Whether 64 rows serve better: where tiles of 128 would leave multiprocessors idle. A row's result is the
/// same in either, to the bit.
constexpr bool small_tiles(std::int32_t n_rows, std::int32_t n_sequences, std::int32_t n_kv_heads,
                           std::int32_t group) {
  return n_kv_heads * max_tiles(n_rows, n_sequences, 128 / group) < 132;
}

/// The shapes tensor cores are used for; all others take the general kernel.
constexpr bool has_tensor_path(const KvLayout& layout) {
  return layout.element != KvElement::f32 && (layout.head_dim == 64 || layout.head_dim == 128);
}

}  // namespace cga::cuda
