// Compares a kernel's output with the oracle's, row by row. A row's relative L2 error is what ops.h promises;
// the worst element's place is for whoever has to find out why a promise was broken.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <ostream>
#include <span>

namespace cga::test {

struct Comparison {
  bool same_shape = true;
  std::size_t special_mismatches = 0;  // elements where NaN or an infinity stands on one side only
  double worst_l2 = 0;                 // of a row: |actual - expected| / |expected|
  double least_cosine = 1;             // of a row
  std::size_t worst_row = 0;           // the row of worst_l2
  std::size_t worst_index = 0;  // element of the largest difference in that row, counted from the beginning
  float actual = 0, expected = 0;  // that element

  bool within(double l2) const {
    // The cosine of an error that small is 1 - l2² / 2; a little is left for its own rounding.
    return same_shape && special_mismatches == 0 && worst_l2 <= l2 && least_cosine >= 1 - l2 * l2 - 1e-12;
  }
};

/// @param row  elements a row; both spans are whole rows
inline Comparison compare(std::span<const float> actual, std::span<const float> expected, std::size_t row) {
  Comparison result;
  if (actual.size() != expected.size() || row == 0 || actual.size() % row != 0) {
    result.same_shape = false;
    return result;
  }
  for (std::size_t begin = 0; begin < actual.size(); begin += row) {
    double difference = 0, norm = 0, actual_norm = 0, dot = 0, largest = -1;
    std::size_t largest_index = begin;
    for (std::size_t i = begin; i < begin + row; ++i) {
      const double a = actual[i], e = expected[i];
      if (!std::isfinite(a) || !std::isfinite(e)) {
        const bool agree = (std::isnan(a) && std::isnan(e)) || a == e;
        if (!agree) ++result.special_mismatches;
        continue;
      }
      const double d = std::abs(a - e);
      difference += d * d;
      norm += e * e;
      actual_norm += a * a;
      dot += a * e;
      if (d > largest) {
        largest = d;
        largest_index = i;
      }
    }
    const double l2 =
        difference == 0 ? 0 : std::sqrt(difference / norm);  // infinite where zeros are expected
    const double scale = std::sqrt(norm) * std::sqrt(actual_norm);
    if (scale > 0) result.least_cosine = std::min(result.least_cosine, dot / scale);
    if (l2 > result.worst_l2 || begin == 0) {
      result.worst_l2 = l2;
      result.worst_row = begin / row;
      result.worst_index = largest_index;
      result.actual = actual[largest_index];
      result.expected = expected[largest_index];
    }
  }
  return result;
}

inline std::ostream& operator<<(std::ostream& out, const Comparison& c) {
  if (!c.same_shape) return out << "shapes differ";
  return out << c.special_mismatches << " NaN/Inf mismatches; worst row " << c.worst_row << ": relative L2 "
             << c.worst_l2 << ", largest difference at " << c.worst_index << " (" << c.actual << ", expected "
             << c.expected << "); least cosine " << c.least_cosine;
}

}  // namespace cga::test
