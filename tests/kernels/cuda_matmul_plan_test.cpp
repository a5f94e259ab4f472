// What CUDA matmul plans must keep: orders of sums that no batch changes, memory that fits.
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/matmul/plan.h"
#include "kernels/cuda/matmul/tile.h"
#include "kernels/cuda_devices.h"
#include "support/catch.h"

using namespace cga::cuda;
using cga::test::devices;

namespace {

// Q4_0, Q4_K, Q6_K, Q8_0, F16
const DecodeTile tiles[] = {
    {1, 32, 2, 576}, {1, 32, 2, 640}, {1, 16, 2, 896}, {1, 32, 2, 1088}, {2, 32, 1, 2048}};

}  // namespace

TEST_CASE("a decode plan's order of sums depends on columns only", "[cuda-matmul-plan]") {
  for (const DeviceLimits& device : devices) {
    for (const DecodeTile& tile : tiles) {
      for (const std::int64_t cols : {1, 61, 64, 576, 1536, 4096, 8960, 14336}) {
        for (int n = 1; n <= max_decode_tokens; ++n) {
          const DecodePlan plan = plan_decode(cols, 100, n, tile, device);
          const Stretches stretches = decode_stretches(cols, tile.step);
          CHECK(plan.stretches == stretches.n);
          CHECK(plan.stretch_tiles == stretches.tiles);
          CHECK(plan.activations.padded_cols == round_up(cols, tile_cols));
        }
      }
    }
  }
}

TEST_CASE("a decode plan's parts lie apart and within what the device has", "[cuda-matmul-plan]") {
  for (const DeviceLimits& device : devices) {
    for (const DecodeTile& tile : tiles) {
      for (const std::int64_t cols : {1, 61, 576, 1536, 2048, 4096, 8960, 14336, 28672, 65536}) {
        for (const int n : {1, 2, 7, 8, 9, 16, 17, 31, 32}) {
          const DecodePlan plan = plan_decode(cols, 1000, n, tile, device);
          const ActivationLayout& x = plan.activations;
          INFO(cols << " columns, " << n << " tokens, tiles of " << tile.bytes);
          CHECK(plan.shared_bytes + 1024 + 2048 <= static_cast<std::size_t>(device.shared_per_cta));
          CHECK(plan.grid >= 1);
          CHECK(plan.grid <= 1000);
          CHECK(8 * plan.token_tiles * plan.token_groups >= n);
          CHECK(x.n_tokens * plan.token_groups >= n);
          CHECK(x.slots >= x.n_tokens);
          CHECK(x.stride_bytes >= 2 * x.padded_cols);
          CHECK(x.stride_bytes % 128 == 64);
          CHECK(x.sums_offset >= tile.planes * x.n_tokens * x.stride_bytes);
          CHECK(x.scales_offset - x.sums_offset >= x.padded_cols / tile.group * x.slots * 4);
          CHECK(x.bytes >= x.scales_offset + 4 * x.n_tokens);
          if (plan.fused) CHECK(n == 1);
          CHECK(plan.partials_offset >= static_cast<std::size_t>(plan.fused ? x.bytes : 0));
          CHECK(plan.ring_offset % 16 == 0);
          CHECK(plan.ring_bytes % 16 == 0);
          CHECK(plan.shared_bytes >=
                plan.ring_offset + static_cast<std::size_t>(plan.warps * plan.ring_bytes));
        }
      }
    }
  }
}

TEST_CASE("stretches cover a row once", "[cuda-matmul-plan]") {
  for (const int step : {1, 2}) {
    for (std::int64_t cols = 1; cols < 40000; cols += 37) {
      const Stretches stretches = decode_stretches(cols, step);
      const std::int64_t tiles = round_up(cols, tile_cols) / tile_cols;
      CHECK(stretches.n <= 16);
      CHECK(stretches.tiles % step == 0);
      CHECK(stretches.n * stretches.tiles >= tiles);
      CHECK((stretches.n - 1) * stretches.tiles < tiles);
    }
  }
}

TEST_CASE("warps take all stretches, and threads all results", "[cuda-matmul-plan]") {
  for (const std::int64_t cols : {1, 61, 576, 1536, 4096, 8960, 14336}) {
    for (const std::int64_t n_tasks : {1, 100, 10000}) {
      for (const int n : {1, 8, 16, 32}) {
        const DecodePlan plan = plan_decode(cols, n_tasks, n, tiles[0], devices[0]);
        CHECK(plan.warps * plan.warp_stretches >= plan.stretches);
        CHECK(plan.warps <= 16);
        CHECK(32 * plan.warps * plan.token_tiles >= tile_rows * plan.activations.n_tokens);
      }
    }
  }
}

TEST_CASE("a single token is converted where it is multiplied", "[cuda-matmul-plan]") {
  for (const std::int64_t cols : {576, 1536, 4096, 8960, 14336}) {
    CHECK(plan_decode(cols, 100, 1, tiles[0], devices[0]).fused);
  }
}

TEST_CASE("a decode grid fills the device and no more", "[cuda-matmul-plan]") {
  CHECK(plan_decode(4096, 1, 1, tiles[0], devices[0]).grid == 1);
  CHECK(plan_decode(4096, 36, 1, tiles[0], devices[0]).grid == 36);
  CHECK(plan_decode(4096, 8016, 1, tiles[0], devices[0]).grid == 528);
  CHECK(plan_decode(4096, 256, 1, tiles[0], devices[0]).grid == 256);
  CHECK(plan_decode(4096, 8016, 16, tiles[0], devices[0]).grid == 264);
  CHECK(plan_decode(4096, 8016, 32, tiles[0], devices[0]).grid == 132);
}

TEST_CASE("a prefill plan covers all rows in bounded memory", "[cuda-matmul-plan]") {
  for (const std::int64_t cols : {61, 576, 4096, 14336}) {
    for (const std::int64_t rows : {1, 17, 576, 4096, 14336, 128256}) {
      for (const std::int64_t n : {1, 33, 128, 513, 2048, 5000}) {
        const PrefillPlan plan = plan_prefill(n, cols, rows);
        INFO(rows << " x " << cols << ", " << n << " tokens");
        CHECK(plan.tokens % 128 == 0);
        CHECK(plan.tokens >= std::min<std::int64_t>(n, max_prefill_tokens));
        CHECK(plan.rows % tile_rows == 0);
        CHECK(plan.rows <= round_up(rows, 128));
        CHECK(plan.bytes <= std::size_t{400} << 20);
        // How rows are cut decides which GEMM multiplies them: the same whatever the number of tokens.
        CHECK(plan.rows == plan_prefill(1, cols, rows).rows);
      }
    }
  }
}
