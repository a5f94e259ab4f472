// The normalised Walsh-Hadamard transform of a head's vector, as 4-bit keys and values are stored: an
// outlier becomes a small part of every value, and a block's scale no longer serves it alone. The matrix is
// orthogonal, symmetric and its own inverse, so q . k = hadamard(q) . hadamard(k).
// (QuaRot, Ashkboos et al., arXiv:2404.00456)
#pragma once

#include <cmath>
#include <cstdint>

namespace cga {

/// Values transformed together: all of a head if head_dim is a power of two, else as many as the largest
/// power of two that divides it.
inline std::int32_t hadamard_size(std::int32_t head_dim) {
  return head_dim & -head_dim;
}

/// In place, in Sylvester's order: sums and differences at distances 1, 2, 4, … and then one factor. This
/// order is part of the op contract: equal bits in every backend give equal codes.
/// @param x  [head_dim]
inline void hadamard(float* x, std::int32_t head_dim) {
  const std::int32_t size = hadamard_size(head_dim);
  for (std::int32_t distance = 1; distance < size; distance *= 2) {
    for (std::int32_t begin = 0; begin < head_dim; begin += 2 * distance) {
      for (std::int32_t i = begin; i < begin + distance; ++i) {
        const float a = x[i], b = x[i + distance];
        x[i] = a + b;
        x[i + distance] = a - b;
      }
    }
  }
  const float factor = 1.0f / std::sqrt(static_cast<float>(size));
  for (std::int32_t i = 0; i < head_dim; ++i) x[i] *= factor;
}

}  // namespace cga
