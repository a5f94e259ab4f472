// What CUDA matmul plans must keep: orders of sums that no batch changes, memory that fits.
#include <algorithm>
#include <cstdint>

#include "kernels/cuda/matmul/plan.h"
#include "kernels/cuda/matmul/tile.h"
#include "support/catch.h"

using namespace cga::cuda;

TEST_CASE("a decode plan's order of sums depends on columns only", "[cuda-matmul-plan]") {
  for (const std::int64_t cols : {1, 61, 64, 576, 1536, 4096, 8960, 14336}) {
    for (const int planes : {1, 2}) {
      for (int n = 1; n <= max_decode_tokens; ++n) {
        const DecodePlan plan = plan_decode(cols, n, planes, 32);
        CHECK(plan.warps == decode_warps(cols));
        CHECK(plan.activations.padded_cols == round_up(cols, tile_cols));
      }
    }
  }
}

TEST_CASE("a decode plan's parts lie apart and within what every device has", "[cuda-matmul-plan]") {
  for (const std::int64_t cols : {1, 61, 576, 1536, 2048, 4096, 8960, 14336, 28672}) {
    for (const int planes : {1, 2}) {
      for (const int group : {16, 32}) {
        for (const int n : {1, 2, 7, 8, 9, 16, 17, 31, 32}) {
          const DecodePlan plan = plan_decode(cols, n, planes, group);
          const ActivationLayout& x = plan.activations;
          INFO(cols << " columns, " << n << " tokens");
          CHECK(plan.shared_bytes <= 48 << 10);
          CHECK(8 * plan.token_tiles * plan.token_groups >= n);
          CHECK(x.slots == 8 * plan.token_tiles);
          CHECK(x.stride_bytes >= 2 * x.padded_cols);
          CHECK(x.stride_bytes % 128 == 64);
          CHECK(x.sums_offset >= planes * x.n_tokens * x.stride_bytes);
          CHECK(x.scales_offset - x.sums_offset >= x.padded_cols / group * x.slots * 4);
          CHECK(x.bytes >= x.scales_offset + 4 * x.n_tokens);
          CHECK(x.bytes % 16 == 0);
          if (plan.fused) CHECK(plan.partials_offset >= static_cast<std::size_t>(x.bytes));
          CHECK(plan.fused <= (n == 1));
          CHECK(x.n_tokens * plan.token_groups >= n);
        }
      }
    }
  }
}

TEST_CASE("a single token is converted where it is multiplied", "[cuda-matmul-plan]") {
  for (const std::int64_t cols : {576, 1536, 4096, 8960, 14336}) {
    CHECK(plan_decode(cols, 1, 1, 32).fused);
  }
}

TEST_CASE("a decode grid is never empty nor larger than its tasks", "[cuda-matmul-plan]") {
  CHECK(decode_grid(1, 1, 132, 2) == 1);
  CHECK(decode_grid(36, 1, 132, 2) == 36);
  CHECK(decode_grid(8016, 1, 132, 2) == 264);
  CHECK(decode_grid(8016, 2, 132, 2) == 132);
  CHECK(decode_grid(8016, 1, 132, 0) == 132);
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
