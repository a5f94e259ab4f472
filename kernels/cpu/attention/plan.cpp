#include "kernels/cpu/attention/plan.h"

#include <algorithm>
#include <bit>

#include "base/checked.h"

namespace cga::cpu {
namespace {

/// Tokens a tile: a power of two, so that tiles cut at its multiples never straddle a page.
std::int32_t tile_tokens(std::int32_t group) {
  const auto most = static_cast<std::uint32_t>(std::max(1, max_tile_rows / group));
  return std::min(page_tokens, static_cast<std::int32_t>(std::bit_floor(most)));
}

/// Calls visit(tile of KV head 0, pages) for a sequence's tiles, the longest first.
template <class Visit>
void for_tiles(const SequenceRows& sequence, std::int32_t index, std::int32_t group, Visit visit) {
  const std::int32_t step = tile_tokens(group);
  for (std::int32_t end = sequence.n_tokens; end > 0;) {
    const std::int32_t last_position = sequence.position + end - 1;
    const std::int32_t begin = std::max(0, end - last_position % step - 1);
    visit(AttendTile{index, 0, begin, end - begin}, last_position / page_tokens + 1);
    end = begin;
  }
}

/// Time of a tile in arbitrary units: a page costs its rows, and about two rows' worth to be read.
std::int64_t cost(const AttendTile& tile, std::int32_t n_pages, std::int32_t group) {
  return std::int64_t{n_pages} * (tile.n_tokens * group + 2);
}

}  // namespace

void plan_attend(AttendPlan& plan, std::span<const SequenceRows> sequences, std::int32_t n_kv_heads,
                 std::int32_t group, int n_threads) {
  plan.items.clear();
  plan.merges.clear();
  plan.n_partials = plan.largest_tile = 0;

  std::int64_t total = 0;
  for (const SequenceRows& sequence : sequences) {
    for_tiles(sequence, 0, group, [&](const AttendTile& tile, std::int32_t n_pages) {
      total += n_kv_heads * cost(tile, n_pages, group);
      plan.largest_tile = std::max<std::int64_t>(plan.largest_tile, tile.n_tokens * group);
    });
  }

  // A tile above an eighth of a thread's share would leave threads idle at the end.
  const std::int64_t bearable = total / (8 * n_threads);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    for (std::int32_t head = 0; head < n_kv_heads; ++head) {
      for_tiles(sequences[s], static_cast<std::int32_t>(s), group,
                [&](AttendTile tile, std::int32_t n_pages) {
                  tile.kv_head = head;
                  const std::int32_t n_runs = div_up(n_pages, run_pages);
                  if (n_threads == 1 || n_runs == 1 || cost(tile, n_pages, group) <= bearable) {
                    plan.items.push_back({tile, -1, -1});
                    return;
                  }
                  plan.merges.push_back({tile, plan.n_partials, n_runs});
                  for (std::int32_t run = 0; run < n_runs; ++run)
                    plan.items.push_back({tile, run, plan.n_partials++});
                });
    }
  }
}

}  // namespace cga::cpu
