// Ops::top_units.
#include <algorithm>
#include <numeric>

#include "kernels/cpu/index/index.h"

namespace cga::cpu {
namespace {

/// @param scores, order  [units], scratch of the thread
/// @param n_before  units that the row's predecessor chose
/// @return how many it chose
std::int32_t choose(const TopUnitsParams& params, std::int64_t i, std::int32_t n_before, float* scores,
                    std::int32_t* order) {
  const ScoredRow& row = params.rows[static_cast<std::size_t>(i)];
  const std::int32_t count = units_of_row(params, row);
  std::copy_n(params.scores + i * params.stride + row.first, row.last - row.first, scores + row.first);
  if (row.before != nullptr) {
    for (std::int32_t j = 0; j < n_before; ++j) scores[row.before[j]] += params.bonus;
  }
  std::int32_t* const end = order + (row.last - row.first);
  std::iota(order, end, row.first);
  const auto better = [scores](std::int32_t a, std::int32_t b) {
    return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
  };
  // A total order: which units are the best does not depend on how they are found.
  if (count < row.last - row.first) std::nth_element(order, order + count, end, better);
  std::int32_t* chosen = params.units + i * params.count;
  std::copy_n(order, count, chosen);
  std::sort(chosen, chosen + count);
  if (params.need != nullptr) params.counts[i] = count;
  return count;
}

}  // namespace

void top_units(const TopUnitsParams& params, ThreadPool& pool, IndexScratch& scratch) {
  const auto stride = static_cast<std::size_t>(params.stride);
  scratch.order.resize(static_cast<std::size_t>(pool.size()) * stride);
  scratch.scores.resize(static_cast<std::size_t>(pool.size()) * stride);
  // A row that depends on the one before it follows it on the same thread.
  const auto n_rows = static_cast<std::int64_t>(params.rows.size());
  const auto follows = [&params](std::int64_t i) {
    return i > 0 && params.rows[static_cast<std::size_t>(i)].before == params.units + (i - 1) * params.count;
  };
  pool.parallel_for(n_rows, [&](std::int64_t first, int thread) {
    if (follows(first)) return;
    float* scores = scratch.scores.data() + thread * params.stride;
    std::int32_t* order = scratch.order.data() + thread * params.stride;
    std::int32_t n_before = params.rows[static_cast<std::size_t>(first)].n_before;
    for (std::int64_t i = first; i == first || (i < n_rows && follows(i)); ++i) {
      n_before = choose(params, i, n_before, scores, order);
    }
  });
}

}  // namespace cga::cpu
