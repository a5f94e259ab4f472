// How attention is cut into CTAs: pure functions that host and device share, header only so that they can be
// tested where there is no CUDA.
//
// Decoding cuts a sequence into splits. Their size follows from the sequence's own length alone, so that
// neither neighbours nor the grid's upper bound change a result. Splits are merged as a tree of two levels:
// the last CTA of each merge_width neighbours merges these while others still read pages; the last of those
// merges what is left. One CTA that merged all of 256 splits would take as long as a tenth of the reading.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/host_device.h"
#include "tensor/kv_layout.h"

namespace cga::cuda {

inline constexpr std::int32_t merge_width = 16;
inline constexpr std::int32_t most_splits = merge_width * merge_width;
inline constexpr std::int32_t launch_sequences = 256;  // of one launch; more sequences take more launches
inline constexpr std::int32_t tile_heads = 8;          // query heads of a decoding CTA: N of mma.m16n8k16

/// Tokens a split of a sequence of `length` tokens; a multiple of page_tokens. Small enough to occupy the
/// device, large enough that reading outweighs starting and merging.
CGA_HOST_DEVICE constexpr std::int32_t split_tokens(std::int32_t length) {
  if (length <= 1024) return 64;
  if (length <= 8192) return 128;
  std::int32_t tokens = 256;
  while (tokens < (length + most_splits - 1) / most_splits) tokens *= 2;
  return tokens;
}

CGA_HOST_DEVICE constexpr std::int32_t n_splits(std::int32_t length) {
  const std::int32_t tokens = split_tokens(length);
  return (length + tokens - 1) / tokens;
}

/// The most splits a sequence of up to `max_length` tokens has. Not n_splits(max_length): that falls wherever
/// split_tokens doubles.
CGA_HOST_DEVICE constexpr std::int32_t max_splits(std::int32_t max_length) {
  std::int32_t most = n_splits(max_length);
  for (const std::int32_t last : {1024, 8192}) {  // the longest with splits of 64, of 128
    if (last < max_length && n_splits(last) > most) most = n_splits(last);
  }
  for (std::int64_t last = 256 * most_splits; last < max_length; last *= 2) most = most_splits;
  return most;
}

/// Where a decoding CTA leaves what it computed: the workspace holds counters, then (m, l) and then sums of
/// every (sequence, slot, query head). A sequence's slots are its splits, then its merged groups of splits.
struct DecodeWorkspace {
  std::int32_t n_heads, head_dim, n_sequences /* <= launch_sequences */, n_slots;

  static constexpr std::int32_t counters = 1 + merge_width;  // a (sequence, tile of heads): merges, groups

  CGA_HOST_DEVICE constexpr DecodeWorkspace(std::int32_t heads, std::int32_t dim, std::int32_t sequences,
                                            std::int32_t max_length)
      : n_heads(heads), head_dim(dim), n_sequences(sequences), n_slots(0) {
    const std::int32_t splits = max_splits(max_length);
    n_slots = splits + (splits > merge_width ? merge_width : 0);
  }
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

/// A prompt's tile: rows that share pages, (token, query head of one KV head) in this order.
inline constexpr std::int32_t tile_rows = 128;

/// Tokens a tile; 0 where a token's heads alone do not fit.
CGA_HOST_DEVICE constexpr std::int32_t tile_tokens(std::int32_t group) {
  return tile_rows / group;
}

/// Tiles of one sequence.
CGA_HOST_DEVICE constexpr std::int32_t n_tiles(std::int32_t n_tokens, std::int32_t group) {
  return (n_tokens + tile_tokens(group) - 1) / tile_tokens(group);
}

/// The most tiles that n_rows rows of n_sequences sequences make.
CGA_HOST_DEVICE constexpr std::int32_t max_tiles(std::int32_t n_rows, std::int32_t n_sequences,
                                                 std::int32_t group) {
  return n_rows / tile_tokens(group) + n_sequences;
}

/// The shapes tensor cores are used for; all others take the general kernel.
constexpr bool has_tensor_path(const KvLayout& layout) {
  return layout.element != KvElement::f32 && (layout.head_dim == 64 || layout.head_dim == 128);
}

}  // namespace cga::cuda
