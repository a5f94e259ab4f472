// Part of the op contract (ops.h): choosing units of the archive by their scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

namespace cga {

/// A row whose archived past is scored: units [first, last) of its sequence.
struct ScoredRow {
  std::int32_t row = 0;                 // of the batch
  std::int32_t first = 0, last = 0;     // units, 16 tokens each, counted from position 0
  std::span<const std::int32_t> pages;  // [>= ceil(last / 4)], ids of index pages
  /// For top_units: what the row's predecessor chose, ascending, or null; either of an earlier call,
  /// or of the row just before this one in the same call, in TopUnitsParams::units.
  const std::int32_t* before = nullptr;  // [n_before] of an earlier call, else as many as that row has, i32
  std::int32_t n_before = 0;
};

struct TopUnitsParams {
  const float* scores = nullptr;  // [rows.size(), stride], f32
  std::int64_t stride = 0;
  std::span<const ScoredRow> rows;  // pages are not read; last - first >= count, or by need >= least
  std::int32_t count = 0;           // units of each row; by need the most of one
  float bonus = 0.0f;               // added to the scores of units that the row's predecessor chose
  /// By need: a row has mean * need units, rounded to even, from least to count, and no more than there are.
  const float* need = nullptr;  // [n_tokens], f32, at ScoredRow::row; null: all have count
  std::int32_t mean = 0, least = 0;
  std::int32_t* units = nullptr;   // [rows.size(), count], host memory; by need, as many of a row as it has
  std::int32_t* counts = nullptr;  // [rows.size()], host memory: how many; by need only
};

/// How many units a row of top_units has. `need` is in host memory.
inline std::int32_t units_of_row(const TopUnitsParams& params, const ScoredRow& row) {
  if (params.need == nullptr) return params.count;
  const float wanted = std::nearbyint(params.need[row.row] * static_cast<float>(params.mean));
  const std::int32_t most = std::min(params.count, row.last - row.first);
  if (!(wanted > static_cast<float>(params.least))) return std::min(params.least, most);  // NaN, too
  return wanted < static_cast<float>(most) ? static_cast<std::int32_t>(wanted) : most;
}

}  // namespace cga
