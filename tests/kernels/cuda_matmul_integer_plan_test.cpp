// What plans of products in integers must keep: orders of sums that no batch changes, memory that fits, a
// warp for every stretch and a thread for every result.
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/matmul/integer_plan.h"
#include "kernels/cuda/matmul/tile.h"
#include "kernels/cuda_devices.h"
#include "support/catch.h"

using namespace cga::cuda;
using cga::test::devices;

namespace {

// Q4_0, Q4_K, Q8_0
const IntegerTileShape tiles[] = {{2, 576, false}, {2, 640, true}, {1, 1088, false}};

template <class Check>
void for_each_plan(const Check& check) {
  for (const DeviceLimits& device : devices) {
    for (const IntegerTileShape& tile : tiles) {
      for (const std::int64_t cols : {32, 64, 96, 576, 1536, 2048, 4096, 8960, 14336, 28672}) {
        for (const std::int64_t n_tasks : {1, 36, 100, 256, 896, 8016}) {
          for (int n = 1; n <= max_decode_tokens; ++n) {
            INFO(cols << " columns, " << n_tasks << " tasks, " << n << " tokens, tiles of " << tile.bytes
                      << " bytes, " << device.multiprocessors << " multiprocessors");
            check(plan_integers(cols, n_tasks, n, tile, device), cols, n_tasks, n, tile, device);
          }
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("an integer plan's order of sums depends on columns only", "[cuda-matmul-plan]") {
  for_each_plan([](const IntegerPlan& plan, std::int64_t cols, std::int64_t, int,
                   const IntegerTileShape& tile, const DeviceLimits&) {
    const Stretches stretches = decode_stretches(cols, tile.step, 8);
    CHECK(plan.stretches == stretches.n);
    CHECK(plan.stretch_tiles == stretches.tiles);
    CHECK(plan.activations.col_tiles == round_up(cols, tile_cols) / tile_cols);
  });
}

TEST_CASE("an integer plan's warps take all stretches, and its threads a result each", "[cuda-matmul-plan]") {
  for_each_plan([](const IntegerPlan& plan, std::int64_t, std::int64_t n_tasks, int n,
                   const IntegerTileShape&, const DeviceLimits& device) {
    const int together = std::min(n, group_tokens);
    CHECK(plan.team_warps * plan.warp_stretches >= plan.stretches);
    CHECK(plan.n_partials == std::max(0, plan.stretches - plan.warp_stretches) + 1);
    CHECK(32 * plan.team_warps >= tile_rows * together);
    CHECK(plan.teams >= 1);
    CHECK(plan.warps() <= max_cta_warps);
    CHECK(quad_tokens * plan.token_tiles >= together);
    CHECK(plan.token_groups * group_tokens >= n);
    CHECK(plan.activations.slots >= together);
    CHECK(plan.grid >= 1);
    CHECK(plan.grid <= n_tasks);
    CHECK(plan.grid * plan.token_groups <= std::max(device.multiprocessors, plan.token_groups));
    CHECK((plan.quantises ? n <= quad_tokens && plan.token_tiles == 1 : plan.token_tiles > 1));
  });
}

TEST_CASE("an integer plan's parts lie apart and within what the device has", "[cuda-matmul-plan]") {
  for_each_plan([](const IntegerPlan& plan, std::int64_t, std::int64_t, int n, const IntegerTileShape& tile,
                   const DeviceLimits& device) {
    const IntegerLayout& x = plan.activations;
    const std::int64_t slot_tiles = static_cast<std::int64_t>(x.col_tiles) * x.slots;
    CHECK(x.factors_offset >= slot_tiles * slot_tile_bytes);
    CHECK(x.scales_offset >= x.factors_offset + slot_tiles * x.factors * 4);
    CHECK(x.bytes >= x.scales_offset + x.slots * 4);
    CHECK(x.factors_offset % 16 == 0);
    CHECK(x.bytes % 128 == 0);
    const std::size_t partials = static_cast<std::size_t>(2 * plan.teams * plan.partials_floats) * 4;
    CHECK(plan.partials_floats == plan.n_partials * std::min(n, group_tokens) * partial_stride);
    CHECK(plan.ring_offset >= plan.partials_offset + partials);
    CHECK(plan.ring_offset % 16 == 0);
    CHECK(plan.ring_bytes == plan.ring_slots * tile.step * tile.bytes);
    CHECK(plan.ring_bytes % 16 == 0);
    CHECK(std::ranges::count(ring_depths, plan.ring_slots) == 1);
    if (!plan.quantises) CHECK(plan.ring_slots == ring_depths[2]);
    CHECK(plan.shared_bytes >= plan.ring_offset + static_cast<std::size_t>(plan.warps() * plan.ring_bytes));
    CHECK(plan.shared_bytes <= static_cast<std::size_t>(device.shared_per_cta));
    if (!plan.quantises) return;
    const std::int64_t segments = (x.col_tiles * tile_cols + segment_cols - 1) / segment_cols;
    CHECK(plan.squares_offset >= static_cast<std::size_t>(x.bytes));
    CHECK(plan.team_scales_offset >= plan.squares_offset + static_cast<std::size_t>(n * segments) * 4);
    CHECK(plan.partials_offset >= plan.team_scales_offset + static_cast<std::size_t>(plan.teams) * 16);
  });
}

TEST_CASE("rows of up to 65,536 columns are multiplied wherever 99 KB of shared memory can be asked for",
          "[cuda-matmul-plan]") {
  for (const IntegerTileShape& tile : tiles) {
    for (std::int64_t cols = 64; cols <= 65536; cols += 64 + cols / 64 * 8) {
      for (int n = 1; n <= max_decode_tokens; ++n) {
        for (const std::int64_t n_tasks : {12, 256, 8016}) {
          const IntegerPlan plan = plan_integers(cols, n_tasks, n, tile, {28, 102400, 101376});
          INFO(cols << " columns, " << n << " tokens, " << n_tasks << " tasks");
          REQUIRE(plan.teams >= 1);
          REQUIRE(plan.shared_bytes <= 101376);
        }
      }
    }
  }
}

TEST_CASE("matrices of an 8B model are spread over an H100 evenly", "[cuda-matmul-plan]") {
  const auto load = [](std::int64_t cols, std::int64_t n_tasks) {
    const IntegerPlan plan = plan_integers(cols, n_tasks, 1, tiles[0], devices[0]);
    CHECK(plan.quantises);
    const std::int64_t together = plan.teams * 132;
    return (n_tasks + together - 1) / together * plan.teams;
  };
  CHECK(load(4096, 384) == 3);    // q, k, v: 2.9 tasks a multiprocessor
  CHECK(load(4096, 256) == 2);    // output
  CHECK(load(4096, 896) == 7);    // gate and up: 6.8
  CHECK(load(14336, 256) == 2);   // down
  CHECK(load(4096, 8016) <= 63);  // head: 60.7
}

TEST_CASE("two launches of one token find room on a multiprocessor together", "[cuda-matmul-plan]") {
  for (const std::int64_t cols : {576, 1536, 4096, 8960, 14336}) {
    for (const std::int64_t n_tasks : {36, 256, 384, 896, 8016}) {
      const IntegerPlan plan = plan_integers(cols, n_tasks, 1, tiles[0], devices[0]);
      CHECK(2 * (plan.shared_bytes + 1024) <= 233472);
      CHECK(plan.carveout_percent == 100);
    }
  }
}
