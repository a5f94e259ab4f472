// The state of an online softmax for the rows of a tile, as a view of plain floats: a run's partial result,
// or the sum of several. (Milakov & Gimelshein, arXiv:1805.02867)
#pragma once

#include <cstdint>

#include "base/checked.h"

namespace cga::cpu {

/// Floats a row: head_dim, padded to the pair of vectors of the longest target.
inline std::int32_t state_stride(std::int32_t head_dim) {
  return round_up(head_dim, 32);
}

inline std::int64_t state_floats(std::int64_t n_rows, std::int32_t head_dim) {
  return round_up<std::int64_t>(n_rows * (state_stride(head_dim) + 2), 16);
}

struct SoftmaxState {
  /// @param memory  [state_floats(n_rows, head_dim)]
  SoftmaxState(float* memory, std::int32_t n_rows, std::int32_t head_dim)
      : values(memory), highest(memory + n_rows * state_stride(head_dim)), sum(highest + n_rows) {}

  float* values;  // [n_rows, stride], sums of 2^(score - highest) * value, dims in the order of load_values()
  float* highest;  // [n_rows], in units of log2
  float* sum;      // [n_rows], of 2^(score - highest)
};

}  // namespace cga::cpu
