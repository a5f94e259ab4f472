#include "kernels/cuda/matmul/integer_plan.h"

#include <algorithm>

#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {
namespace {

/// Whether every CTA quantises the activations for itself. For one token a kernel before would take longer;
/// for several, only beside a matrix that takes so long itself that it hides some of it.
bool quantises_itself(std::int64_t cols, std::int64_t n_tasks, int n_tokens) {
  constexpr std::int64_t max_values = 16384, large_matrix = 8 << 20;
  const bool is_worth_it = n_tokens == 1 || n_tasks * tile_rows * cols >= large_matrix;
  return n_tokens <= quad_tokens && n_tokens * cols <= max_values && is_worth_it;
}

// A CTA takes reserved and static shared memory besides.
constexpr std::size_t other_bytes = 1024;

/// Lays out a CTA's shared memory.
/// @return whether it fits
bool place_in_shared(IntegerPlan& plan, int n_tokens, const IntegerTileShape& tile, int ring_slots,
                     std::size_t room) {
  std::int64_t at = 0;
  const auto take = [&at](std::int64_t bytes) {
    const std::int64_t offset = at;
    at += round_up(bytes, 128);
    return static_cast<std::size_t>(offset);
  };
  if (plan.quantises) {
    take(plan.activations.bytes);
    const std::int64_t segments = (plan.activations.col_tiles * tile_cols + segment_cols - 1) / segment_cols;
    plan.squares_offset = take(n_tokens * segments * 4);
    plan.team_scales_offset = take(plan.teams * quad_tokens * 4);
  }
  plan.partials_floats = plan.n_partials * std::min(n_tokens, group_tokens) * partial_stride;
  plan.partials_offset = take(std::int64_t{2} * plan.teams * plan.partials_floats * 4);
  plan.ring_slots = ring_slots;
  plan.ring_bytes = ring_slots * tile.step * tile.bytes;
  plan.ring_offset = take(plan.warps() * plan.ring_bytes);
  plan.shared_bytes = static_cast<std::size_t>(at);
  return plan.shared_bytes <= room;
}

/// The deepest rings that leave room for the next kernel's CTAs on the same multiprocessor, so that these
/// fill their rings while this one multiplies; failing that, the deepest that fit at all.
bool choose_rings(IntegerPlan& plan, int n_tokens, const IntegerTileShape& tile, const DeviceLimits& device) {
  const auto half = static_cast<std::size_t>(device.shared_per_multiprocessor / 2) - other_bytes,
             all = static_cast<std::size_t>(device.shared_per_cta);
  for (const std::size_t room : {std::min(half, all), all}) {
    for (const int slots : ring_depths) {
      // What the activations of many tokens do not find in the first-level cache costs more than rings gain.
      if (slots != ring_depths[2] && (room == all || !plan.quantises)) continue;
      if (place_in_shared(plan, n_tokens, tile, slots, room)) return true;
    }
  }
  return false;
}

/// About how many cycles a multiprocessor takes for its share of the tasks: memory gives it a tile in 32,
/// twelve warps multiply one in that time, and the end of a task costs each warp of a team about 40.
std::int64_t cost_of(const IntegerPlan& plan, std::int64_t n_tasks, int multiprocessors) {
  const std::int64_t together = static_cast<std::int64_t>(multiprocessors) * plan.teams;
  const std::int64_t tasks = (n_tasks + together - 1) / together * plan.teams;
  return tasks * (plan.activations.col_tiles * std::max(32, 384 / plan.warps()) + 40 * plan.team_warps);
}

}  // namespace

IntegerLayout integer_layout(std::int64_t cols, int slots, bool has_min) {
  IntegerLayout layout;
  layout.col_tiles = static_cast<int>(round_up(cols, tile_cols) / tile_cols);
  layout.slots = slots;
  layout.factors = has_min ? 4 : 2;
  const std::int64_t slot_tiles = static_cast<std::int64_t>(layout.col_tiles) * slots;
  layout.factors_offset = slot_tiles * slot_tile_bytes;
  layout.scales_offset = round_up(layout.factors_offset + slot_tiles * layout.factors * 4, 16);
  layout.bytes = round_up(layout.scales_offset + slots * 4, 128);
  return layout;
}

IntegerPlan plan_integers(std::int64_t cols, std::int64_t n_tasks, int n_tokens, const IntegerTileShape& tile,
                          const DeviceLimits& device) {
  IntegerPlan plan;
  const Stretches stretches = decode_stretches(cols, tile.step, max_team_warps);
  plan.stretches = stretches.n;
  plan.stretch_tiles = stretches.tiles;
  plan.quantises = quantises_itself(cols, n_tasks, n_tokens);
  plan.token_tiles = plan.quantises ? 1 : n_tokens <= 2 * quad_tokens ? 2 : 4;
  plan.token_groups = (n_tokens + group_tokens - 1) / group_tokens;
  plan.activations =
      integer_layout(cols, plan.quantises ? n_tokens : quad_tokens * plan.token_tiles, tile.has_min);
  const int multiprocessors = std::max(1, device.multiprocessors / plan.token_groups);
  IntegerPlan best;
  std::int64_t least = 0;
  for (int each = 1; each <= stretches.n; ++each) {
    plan.warp_stretches = each;
    // As many as stretches ask for, and enough for a thread to write one result.
    plan.team_warps = std::max((stretches.n + each - 1) / each, 2 * plan.token_tiles);
    plan.n_partials = std::max(0, stretches.n - each) + 1;
    for (int teams = 1; teams <= max_cta_warps / plan.team_warps; ++teams) {
      plan.teams = teams;
      const std::int64_t cost = cost_of(plan, n_tasks, multiprocessors);
      if (best.teams != 0 && cost >= least) continue;
      if (!choose_rings(plan, n_tokens, tile, device)) continue;
      best = plan;
      least = cost;
    }
  }
  // Rather a team without a task than a multiprocessor: the scheduler would give it two CTAs of the next
  // launch.
  best.grid = static_cast<int>(std::min<std::int64_t>(multiprocessors, n_tasks));
  // A multiprocessor must stand still to change the division of its memory; so all launches that may share
  // one ask for the same, and the others leave activations a first-level cache.
  const auto all = static_cast<std::int64_t>(best.shared_bytes + other_bytes);
  best.carveout_percent =
      best.quantises
          ? 100
          : static_cast<int>(std::min<std::int64_t>(
                100, (100 * all + device.shared_per_multiprocessor - 1) / device.shared_per_multiprocessor));
  return best;
}

}  // namespace cga::cuda
