#include "kernels/cuda/matmul/plan.h"

#include <algorithm>

#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {
namespace {

// More would leave too little shared memory for weights on devices with 100 KB of it.
constexpr std::int64_t max_fused_bytes = 40 << 10;

constexpr std::int64_t max_prefill_rows = 8192;
constexpr std::int64_t max_prefill_weights = 64 << 20;  // values at a time

}  // namespace

Stretches decode_stretches(std::int64_t cols, int step, int most) {
  const std::int64_t step_cols = step * tile_cols, steps = (cols + step_cols - 1) / step_cols;
  const std::int64_t each = (steps + most - 1) / most;
  return {static_cast<int>((steps + each - 1) / each), static_cast<int>(each) * step};
}

ActivationLayout activation_layout(std::int64_t cols, int n_tokens, int planes, int group, int slots) {
  ActivationLayout layout;
  layout.padded_cols = round_up(cols, tile_cols);
  layout.planes = planes;
  layout.n_tokens = n_tokens;
  layout.slots = slots;
  layout.stride_bytes = layout.padded_cols * 2 + 64;
  layout.sums_offset = planes * layout.plane_bytes();
  layout.scales_offset = layout.sums_offset + layout.padded_cols / group * layout.slots * 4;
  layout.bytes = round_up(layout.scales_offset + layout.slots * 4, 16);
  return layout;
}

namespace {

/// Lays out a CTA's shared memory: activations if they are converted there, partial sums, rings.
/// @param room  bytes that a CTA may take
/// @return whether it fits
bool place_in_shared(DecodePlan& plan, const DecodeTile& tile, bool deep, std::size_t room) {
  const auto partials =
      static_cast<std::size_t>(plan.stretches * plan.activations.n_tokens * partial_stride * 4);
  plan.deep = deep;
  plan.ring_bytes = ring_slots(tile.step * tile.bytes, deep) * tile.step * tile.bytes;
  plan.partials_offset = plan.fused ? static_cast<std::size_t>(plan.activations.bytes) : 0;
  const std::size_t rest = plan.partials_offset + static_cast<std::size_t>(plan.warps * plan.ring_bytes);
  plan.partials_floats = rest + 2 * partials <= room ? static_cast<int>(partials / 4) : 0;
  plan.ring_offset = plan.partials_offset + (plan.partials_floats != 0 ? 2 : 1) * partials;
  plan.shared_bytes = plan.ring_offset + static_cast<std::size_t>(plan.warps * plan.ring_bytes);
  return plan.shared_bytes <= room;
}

/// As many warps on a multiprocessor as registers allow, then deep rings rather than shallow ones.
/// @return CTAs on a multiprocessor
int share_multiprocessor(DecodePlan& plan, const DecodeTile& tile, const DeviceLimits& device) {
  // A CTA takes reserved and static shared memory besides.
  constexpr int other_bytes = 3584;
  const int most = (plan.token_tiles == 1 ? 32 : 16) / plan.warps;
  for (int ctas = most; ctas > 1; --ctas) {
    const int room = std::min(device.shared_per_multiprocessor / ctas, device.shared_per_cta) - other_bytes;
    for (const bool deep : {true, false}) {
      if (place_in_shared(plan, tile, deep, static_cast<std::size_t>(room))) return ctas;
    }
  }
  const auto room = static_cast<std::size_t>(device.shared_per_cta - other_bytes);
  if (!place_in_shared(plan, tile, true, room)) place_in_shared(plan, tile, false, room);
  return 1;
}

}  // namespace

DecodePlan plan_decode(std::int64_t cols, std::int64_t n_tasks, int n_tokens, const DecodeTile& tile,
                       const DeviceLimits& device) {
  DecodePlan plan;
  const Stretches stretches = decode_stretches(cols, tile.step);
  plan.stretches = stretches.n;
  plan.stretch_tiles = stretches.tiles;
  const int n_together = std::min(n_tokens, group_tokens);
  plan.token_tiles = n_together <= 8 ? 1 : 2;
  plan.token_groups = (n_tokens + group_tokens - 1) / group_tokens;
  // Two stretches cost a warp less than two warps, as long as three quarters of the warps that fit are
  // occupied.
  const int enough = (plan.token_tiles == 1 ? 24 : 12) * device.multiprocessors;
  plan.warp_stretches = n_tasks * plan.token_groups * stretches.n / 2 >= enough ? 2 : 1;
  plan.warps = std::max(4, (stretches.n + plan.warp_stretches - 1) / plan.warp_stretches);
  // Every CTA would repeat the conversion, token after token: of two it takes longer than a kernel before. So
  // it does beside large matrices of many bits, where a kernel before is nothing.
  const bool heavy = tile.bytes > 1024 && n_tasks >= 4 * device.multiprocessors;
  plan.activations = activation_layout(cols, n_together, tile.planes, tile.group, 1);
  plan.fused = n_tokens == 1 && plan.activations.bytes <= max_fused_bytes && !heavy;
  if (!plan.fused) {
    plan.activations = activation_layout(cols, n_together, tile.planes, tile.group, 8 * plan.token_tiles);
  }
  const int ctas = share_multiprocessor(plan, tile, device);
  const std::int64_t resident = std::max(1, device.multiprocessors * ctas / plan.token_groups);
  plan.grid = static_cast<int>(std::min(n_tasks, resident));
  const auto all = static_cast<std::int64_t>(plan.shared_bytes + 3584) * ctas;
  plan.carveout_percent = static_cast<int>(std::min<std::int64_t>(
      100, (100 * all + device.shared_per_multiprocessor - 1) / device.shared_per_multiprocessor));
  return plan;
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
