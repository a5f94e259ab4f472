// Ops::top_units.
#include <algorithm>
#include <numeric>

#include "kernels/cpu/index/index.h"

namespace cga::cpu {

void top_units(const TopUnitsParams& params, ThreadPool& pool, IndexScratch& scratch) {
  const auto stride = static_cast<std::size_t>(params.stride);
  scratch.order.resize(static_cast<std::size_t>(pool.size()) * stride);
  pool.parallel_for(static_cast<std::int64_t>(params.rows.size()), [&](std::int64_t i, int thread) {
    const ScoredRow& row = params.rows[static_cast<std::size_t>(i)];
    const float* scores = params.scores + i * params.stride;
    const auto order = scratch.order.begin() + thread * params.stride;
    const auto end = order + (row.last - row.first);
    std::iota(order, end, row.first);
    const auto better = [scores](std::int32_t a, std::int32_t b) {
      return scores[a] != scores[b] ? scores[a] > scores[b] : a < b;
    };
    // A total order: which units are the best does not depend on how they are found.
    if (params.count < row.last - row.first) std::nth_element(order, order + params.count, end, better);
    std::int32_t* chosen = params.units + i * params.count;
    std::copy_n(order, params.count, chosen);
    std::sort(chosen, chosen + params.count);
  });
}

}  // namespace cga::cpu
