#include "kernels/cuda/matmul/plan.h"

#include <algorithm>

#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {
namespace {

// Without asking for more, a CTA gets 48 KiB of shared memory on every device.
constexpr std::size_t max_shared_bytes = 48 << 10;

// A row of partial sums in shared memory: 16 rows of weights, and 4 floats so that tokens differ in bank.
constexpr std::int64_t partial_stride = tile_rows + 4;

constexpr std::int64_t max_prefill_rows = 8192;
constexpr std::int64_t max_prefill_weights = 64 << 20;  // values at a time

}  // namespace

int decode_warps(std::int64_t cols) {
  const std::int64_t tiles = (cols + tile_cols - 1) / tile_cols;
#ifdef CGA_WARPS
  if (tiles >= 48) return CGA_WARPS;
#endif
  if (tiles >= 48) return 16;
  return tiles >= 6 ? 8 : 4;
}

ActivationLayout activation_layout(std::int64_t cols, int n_tokens, int planes, int group) {
  ActivationLayout layout;
  layout.padded_cols = round_up(cols, tile_cols);
  layout.planes = planes;
  layout.n_tokens = n_tokens;
  layout.slots = n_tokens <= 8 ? 8 : 16;
  layout.stride_bytes = layout.padded_cols * 2 + 64;
  layout.sums_offset = planes * layout.plane_bytes();
  layout.scales_offset = layout.sums_offset + layout.padded_cols / group * layout.slots * 4;
  layout.bytes = round_up(layout.scales_offset + layout.slots * 4, 16);
  return layout;
}

DecodePlan plan_decode(std::int64_t cols, int n_tokens, int planes, int group) {
  DecodePlan plan;
  plan.warps = decode_warps(cols);
  const int n_together = std::min(n_tokens, group_tokens);
  plan.token_tiles = n_together <= 8 ? 1 : 2;
  plan.token_groups = (n_tokens + group_tokens - 1) / group_tokens;
  plan.activations = activation_layout(cols, n_together, planes, group);
  const auto partials = static_cast<std::size_t>(plan.warps * n_together * partial_stride * 4);
  const auto activations = static_cast<std::size_t>(plan.activations.bytes);
  // Every CTA repeats the conversion, token after token: with two it takes longer than a kernel before.
  plan.fused = n_tokens == 1 && activations + partials <= max_shared_bytes;
  plan.partials_offset = plan.fused ? activations : 0;
  plan.shared_bytes = plan.partials_offset + partials;
  if (plan.shared_bytes + partials <= max_shared_bytes) {
    plan.partials_floats = static_cast<int>(partials / 4);
    plan.shared_bytes += partials;
  }
  return plan;
}

int decode_grid(std::int64_t n_tasks, int token_groups, int multiprocessors, int ctas_per_multiprocessor) {
  const int resident = multiprocessors * std::max(1, ctas_per_multiprocessor);
  return static_cast<int>(std::min<std::int64_t>(n_tasks, std::max(1, resident / token_groups)));
}

PrefillPlan plan_prefill(std::int64_t n_tokens, std::int64_t cols, std::int64_t rows) {
  PrefillPlan plan;
  plan.tokens = std::min(round_up(std::max<std::int64_t>(n_tokens, 1), 128), max_prefill_tokens);
  plan.padded_cols = round_up(cols, tile_cols);
  // Equal pieces of rows, multiples of 128 but for the only one.
  const std::int64_t most = std::max<std::int64_t>(
      128, std::min(max_prefill_rows, max_prefill_weights / plan.padded_cols / 128 * 128));
  const std::int64_t pieces = (rows + most - 1) / most;
  plan.rows = round_up((rows + pieces - 1) / pieces, pieces == 1 ? tile_rows : 128);
  std::size_t at = 0;
  const auto take = [&at](std::int64_t bytes) {
    const std::size_t offset = at;
    at += static_cast<std::size_t>(round_up(bytes, 256));
    return offset;
  };
  take(plan.tokens * plan.padded_cols * 2);  // activations come first
  plan.scales_offset = take(plan.tokens * 4);
  plan.weights_offset = take(plan.rows * plan.padded_cols * 2);
  for (std::size_t& offset : plan.products_offset) offset = take(plan.tokens * plan.rows * 4);
  plan.gemm_offset = take(gemm_workspace_bytes);
  plan.bytes = at;
  return plan;
}

}  // namespace cga::cuda
