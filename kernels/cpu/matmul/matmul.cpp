// The loop around the kernels: quantises the input once, cuts the call into tasks and runs them on all
// threads.
#include "kernels/cpu/matmul/matmul.h"

#include <algorithm>

#include "base/checked.h"
#include "kernels/cpu/matmul/cpu_weight.h"

namespace cga::cpu {
namespace {

// A block of tokens, or a stretch of its columns, is multiplied by many panels: it should stay in a core's
// L2.
constexpr std::int64_t token_block_bytes = std::int64_t{192} << 10;
// Enough tasks that threads finish together, but none so small that taking it costs more than a few percent.
constexpr std::int64_t tasks_per_thread = 6;
constexpr std::int64_t min_task_bytes = std::int64_t{16} << 10;

const CpuWeight& weight_of(const MatmulTarget& target) {
  return static_cast<const CpuWeight&>(*target.weight);
}

std::int64_t n_units(const MatmulTarget& target) {
  return div_up<std::int64_t>(target.weight->rows, panel_rows);
}

/// How a call is cut: blocks of tokens times chunks of units (8 rows of one weight), units numbered through
/// all targets.
struct Plan {
  std::int64_t block_tokens = 0, n_blocks = 0;
  std::int64_t chunk_units = 0, n_chunks = 0;
  std::int64_t total_units = 0;
};

Plan plan_of(std::span<const MatmulTarget> targets, std::int64_t n_tokens, int n_threads) {
  Plan plan;
  std::int64_t unit_bytes = 1;
  for (const MatmulTarget& target : targets) {
    plan.total_units += n_units(target);
    unit_bytes = std::max(unit_bytes, weight_of(target).unit_bytes);
  }
  const std::int64_t stretch_cols = std::min(targets[0].weight->cols, stretch_blocks * block_cols);
  const std::int64_t token_bytes =
      stretch_cols * static_cast<std::int64_t>(sizeof(ActivationBlock)) / block_cols;
  plan.block_tokens =
      std::clamp<std::int64_t>(token_block_bytes / token_bytes / 16 * 16, 16, max_block_tokens);
  plan.n_blocks = div_up(n_tokens, plan.block_tokens);
  plan.block_tokens = round_up<std::int64_t>(div_up(n_tokens, plan.n_blocks), tile_tokens);
  const std::int64_t even = div_up(plan.total_units * plan.n_blocks, n_threads * tasks_per_thread);
  const std::int64_t smallest = div_up(min_task_bytes, unit_bytes * std::min(n_tokens, plan.block_tokens));
  plan.chunk_units =
      std::min(round_up<std::int64_t>(std::max(even, smallest), panels_at_once), plan.total_units);
  plan.n_chunks = div_up(plan.total_units, plan.chunk_units);
  return plan;
}

void quantise(const float* x, std::int64_t n_tokens, std::int64_t cols, ThreadPool& pool,
              AlignedMemory& out) {
  const std::int64_t n_blocks = cols / block_cols;
  out.reserve(static_cast<std::size_t>(n_tokens * n_blocks) * sizeof(ActivationBlock));
  auto* blocks = reinterpret_cast<ActivationBlock*>(out.data());
  pool.parallel_for(div_up<std::int64_t>(n_tokens, tile_tokens), [&](std::int64_t tile, int) {
    const std::int64_t token = tile * tile_tokens;
    const auto n = static_cast<int>(std::min<std::int64_t>(tile_tokens, n_tokens - token));
    quantise_tile(x + token * cols, cols, n, blocks + token * n_blocks);
  });
}

/// Multiplies units [first, last) of one target with the tokens of `product`.
void multiply_units(const MatmulTarget& target, std::int64_t first, std::int64_t last,
                    std::int64_t first_token, RowsProduct product) {
  const CpuWeight& weight = weight_of(target);
  const std::int64_t first_row = first * panel_rows;
  product.weights = weight.data + first * weight.unit_bytes;
  product.n_rows = std::min(last * panel_rows, weight.rows) - first_row;
  product.wide_scales = weight.wide_scales;
  product.bias = target.bias != nullptr ? target.bias + first_row : nullptr;
  product.out = target.out + first_token * weight.rows + first_row;
  product.out_stride = weight.rows;
  weight.kernel(product);
}

}  // namespace

void matmul(std::span<const MatmulTarget> targets, const float* x, std::int64_t n_tokens, ThreadPool& pool,
            MatmulScratch& scratch) {
  if (targets.empty() || n_tokens == 0) return;
  const std::int64_t cols = targets[0].weight->cols, n_blocks = cols / block_cols;
  constexpr std::size_t panel_bytes = panels_at_once * stretch_blocks * unpacked_block_bytes(2);
  const bool quantised = std::any_of(targets.begin(), targets.end(),
                                     [](const auto& target) { return weight_of(target).quantised; });
  if (quantised) {
    quantise(x, n_tokens, cols, pool, scratch.activations);
    scratch.panels.reserve(panel_bytes * static_cast<std::size_t>(pool.size()));
  }
  const auto* activations = reinterpret_cast<const ActivationBlock*>(scratch.activations.data());
  const Plan plan = plan_of(targets, n_tokens, pool.size());
  pool.parallel_for(plan.n_blocks * plan.n_chunks, [&](std::int64_t task, int thread) {
    const std::int64_t first_token = task / plan.n_chunks * plan.block_tokens;
    const std::int64_t first_unit = task % plan.n_chunks * plan.chunk_units;
    const std::int64_t last_unit = std::min(first_unit + plan.chunk_units, plan.total_units);
    RowsProduct product;
    product.cols = cols;
    product.n_tokens = std::min(plan.block_tokens, n_tokens - first_token);
    product.x = x + first_token * cols;
    if (quantised) {
      product.quantised = activations + first_token * n_blocks;
      product.unpacked = scratch.panels.data() + static_cast<std::size_t>(thread) * panel_bytes;
    }
    std::int64_t base = 0;  // the number of this target's first unit
    for (const MatmulTarget& target : targets) {
      const std::int64_t n = n_units(target);
      const std::int64_t first = std::max(first_unit - base, std::int64_t{0});
      const std::int64_t last = std::min(last_unit - base, n);
      if (first < last) multiply_units(target, first, last, first_token, product);
      base += n;
    }
  });
}

}  // namespace cga::cpu
