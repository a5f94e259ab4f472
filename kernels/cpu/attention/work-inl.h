// What attend's loops know of a tile while they walk what it reads. Included by attend.cpp's parts only,
// through foreach_target.h.
#if defined(CGA_ATTENTION_WORK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_ATTENTION_WORK_INL_H_
#undef CGA_ATTENTION_WORK_INL_H_
#else
#define CGA_ATTENTION_WORK_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/attention/plan.h"
#include "kernels/cpu/attention/state.h"
#include "kernels/cpu/attention/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

/// A tile's rows, cut into blocks of at most max_rows, as even as can be.
struct Blocks {
  explicit Blocks(std::int32_t n) : n_rows(n), count((n + max_rows - 1) / max_rows) {}
  std::int32_t begin(std::int32_t block) const { return n_rows * block / count; }
  std::int32_t n_rows, count;
};

/// 64 positions of what a tile reads, of which the first n_tokens hold something.
struct Place {
  std::int32_t page = 0;  // positions from 64 * page on
  std::int32_t n_tokens = page_tokens;
};

/// What stays the same while a tile walks its pages. Row r of a tile is token r / group, head r % group.
struct TileWork {
  TileWork(const AttendParams& p, const AttendTile& t)
      : params(p),
        tile(t),
        sequence(p.sequences[static_cast<std::size_t>(t.sequence)]),
        group(p.n_heads / p.pages.layout.n_kv_heads),
        head_dim(p.pages.layout.head_dim),
        stride(state_stride(head_dim)),
        transformed(p.pages.layout.element == KvElement::q4),
        first_position(sequence.position + t.first_token),
        blocks(t.n_tokens * group) {}

  std::int32_t n_pages() const { return (first_position + tile.n_tokens - 1) / page_tokens + 1; }
  /// Tokens at a place that a row may see; at least one, as a tile does not straddle pages.
  std::int32_t valid(const Place& place, std::int32_t row) const {
    return HWY_MIN(place.n_tokens, first_position + row / group + 1 - place.page * page_tokens);
  }
  /// Offset of a row in q and out.
  std::int64_t row_offset(std::int32_t row) const {
    const std::int64_t token = std::int64_t{sequence.first_row} + tile.first_token + row / group;
    return (token * params.n_heads + tile.kv_head * group + row % group) * head_dim;
  }

  const AttendParams& params;
  const AttendTile& tile;
  const SequenceRows& sequence;
  std::int32_t group, head_dim, stride;
  bool transformed;  // keys and values are: so must queries be, and results turned back
  std::int32_t first_position;
  Blocks blocks;
};

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_ATTENTION_WORK_INL_H_
