// Who computes what in attend: a pure function of the batch's shape, so that it can be tested alone.
//
// A tile is some tokens of one sequence times the query heads of one KV head: rows that read the same keys
// and values. A tile's pages are always summed run by run (run_pages pages, counted from position 0), each
// run from a fresh softmax state, and the runs are merged in order. Hence a tile may be one item, which walks
// all its runs, or an item a run and a merge afterwards: the result is the same to the bit, and the plan is
// free to balance threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/ops.h"

namespace cga::cpu {

inline constexpr std::int32_t run_pages = 4;
inline constexpr std::int32_t max_tile_rows = 64;

struct AttendTile {
  std::int32_t sequence = 0;  // index in AttendParams::sequences
  std::int32_t kv_head = 0;
  std::int32_t first_token = 0;  // of the sequence's n_tokens
  std::int32_t n_tokens = 0;     // all at positions of one page
};

struct AttendItem {
  AttendTile tile;
  std::int32_t run = -1;      // -1: all runs, and write the output
  std::int64_t partial = -1;  // run >= 0: index of the softmax state to leave
};

struct AttendMerge {
  AttendTile tile;
  std::int64_t first_partial = 0;
  std::int32_t n_runs = 0;  // >= 2
};

struct AttendPlan {
  std::vector<AttendItem> items;
  std::vector<AttendMerge> merges;
  std::int64_t n_partials = 0;
  std::int64_t largest_tile = 0;  // rows
};

/// @param group  query heads a KV head
/// @param plan   overwritten; its memory is used again
void plan_attend(AttendPlan& plan, std::span<const SequenceRows> sequences, std::int32_t n_kv_heads,
                 std::int32_t group, int n_threads);

}  // namespace cga::cpu
