// The work plan of attend: whatever the batch and the threads, every row of every head is computed exactly
// once.
#include <map>
#include <tuple>
#include <vector>

#include "base/checked.h"
#include "kernels/cpu/attention/plan.h"
#include "support/catch.h"

using namespace cga;
using namespace cga::cpu;

namespace {

struct Shape {
  std::int32_t position, n_tokens;
};

AttendPlan plan_for(const std::vector<Shape>& shapes, int n_kv_heads, int group, int n_threads) {
  std::vector<SequenceRows> sequences;
  std::int32_t row = 0;
  for (const Shape& shape : shapes) {
    sequences.push_back({row, shape.n_tokens, shape.position, {}});
    row += shape.n_tokens;
  }
  AttendPlan plan;
  plan_attend(plan, sequences, n_kv_heads, group, n_threads);
  return plan;
}

/// Times each (sequence, KV head, token) is written.
std::map<std::tuple<int, int, int>, int> written(const AttendPlan& plan) {
  std::map<std::tuple<int, int, int>, int> times;
  const auto count = [&](const AttendTile& tile) {
    for (int t = 0; t < tile.n_tokens; ++t) ++times[{tile.sequence, tile.kv_head, tile.first_token + t}];
  };
  for (const AttendItem& item : plan.items) {
    if (item.run < 0) count(item.tile);
  }
  for (const AttendMerge& merge : plan.merges) count(merge.tile);
  return times;
}

}  // namespace

TEST_CASE("a plan writes every row once and tiles stay within a page", "[attention][plan]") {
  const std::vector<Shape> shapes = {{0, 1}, {4096, 1}, {61, 200}, {0, 0}, {700, 17}};
  for (const int group : {1, 3, 6, 7, 8, 16}) {
    for (const int n_threads : {1, 2, 3, 64}) {
      const AttendPlan plan = plan_for(shapes, 2, group, n_threads);
      const auto times = written(plan);
      CHECK(times.size() == 2 * (1 + 1 + 200 + 17));
      for (const auto& [row, n] : times) CHECK(n == 1);
      for (const AttendItem& item : plan.items) {
        const int first =
            shapes[static_cast<std::size_t>(item.tile.sequence)].position + item.tile.first_token;
        CHECK(first / page_tokens == (first + item.tile.n_tokens - 1) / page_tokens);
        CHECK(item.tile.n_tokens * group <= max_tile_rows);
        CHECK(item.tile.n_tokens * group <= plan.largest_tile);
      }
    }
  }
}

TEST_CASE("a split tile's runs cover its pages, and its partial states are its own", "[attention][plan]") {
  const AttendPlan plan = plan_for({{4096, 1}, {1000, 1}}, 3, 3, 4);
  REQUIRE(!plan.merges.empty());
  std::vector<int> used(static_cast<std::size_t>(plan.n_partials));
  for (const AttendItem& item : plan.items) {
    if (item.run >= 0) ++used[static_cast<std::size_t>(item.partial)];
  }
  for (const int n : used) CHECK(n == 1);
  for (const AttendMerge& merge : plan.merges) {
    const int position = merge.tile.sequence == 0 ? 4096 : 1000;
    CHECK(merge.n_runs == div_up(position / page_tokens + 1, run_pages));
    for (int run = 0; run < merge.n_runs; ++run) {
      bool found = false;
      for (const AttendItem& item : plan.items) {
        found =
            found || (item.partial == merge.first_partial + run && item.run == run &&
                      item.tile.kv_head == merge.tile.kv_head && item.tile.sequence == merge.tile.sequence);
      }
      CHECK(found);
    }
  }
}

TEST_CASE("one long sequence keeps every thread busy, and one thread needs no splitting",
          "[attention][plan]") {
  CHECK(plan_for({{4096, 1}}, 1, 8, 16).items.size() >= 16);
  const AttendPlan alone = plan_for({{4096, 1}}, 3, 3, 1);
  CHECK(alone.items.size() == 3);
  CHECK(alone.merges.empty());
}
