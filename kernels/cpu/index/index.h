// The index on the CPU (Ops::index_keys, score_units, top_units, attention_mass). What it costs:
// docs/kernels/index.md.
#pragma once

#include <hwy/aligned_allocator.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/ops.h"

namespace cga::cpu {

/// Memory of the ops, kept from call to call.
struct IndexScratch {
  std::vector<float> queries;       // [rows, n_heads, width]: codes, as floats
  std::vector<float> weights;       // [rows, n_heads]
  std::vector<std::int32_t> order;  // [threads, units]
  std::vector<float> scores;        // [threads, units]: with the bonus
  std::vector<float> mass;          // [threads, tokens]
};

void index_keys(const IndexKeysParams& params, ThreadPool& pool);
void score_units(const ScoreUnitsParams& params, ThreadPool& pool, IndexScratch& scratch);
void top_units(const TopUnitsParams& params, ThreadPool& pool, IndexScratch& scratch);
void attention_mass(const AttentionMassParams& params, ThreadPool& pool, IndexScratch& scratch);

/// Rotates the second half of a vector of the index and rounds it to int8.
/// @param x        [width]
/// @param cos_sin  [2, width/4]
/// @param codes    [width], whole numbers in [-127, 127]
/// @return their scale
float rotate_and_round(const float* x, const float* cos_sin, std::int32_t width, float* codes);

}  // namespace cga::cpu
