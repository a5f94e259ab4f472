// Matrix products in double precision on the host, and how far a result is from them.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <thread>
#include <vector>

#include "tensor/weight_view.h"

namespace cga::test {

using Floats = std::vector<float>;

inline void in_parallel(std::int64_t n, const std::function<void(std::int64_t)>& run) {
  const int n_threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  std::vector<std::thread> threads;
  for (int t = 0; t < n_threads; ++t) {
    threads.emplace_back([&, t] {
      for (std::int64_t i = t; i < n; i += n_threads) run(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

/// What results should be, and how large the sums are that they come from.
struct Expected {
  std::vector<double> value, magnitude;  // [n_tokens, rows]
};

inline Expected host_product(const WeightView& w, const std::vector<double>& x, std::int64_t n_tokens) {
  Expected expected;
  expected.value.resize(static_cast<std::size_t>(n_tokens * w.rows));
  expected.magnitude = expected.value;
  in_parallel(w.rows, [&](std::int64_t r) {
    Floats row(static_cast<std::size_t>(w.cols));
    w.type->decode(w.row(r), w.cols / w.type->block_values, row.data());
    for (std::int64_t t = 0; t < n_tokens; ++t) {
      double sum = 0.0, squares = 0.0;
      for (std::int64_t c = 0; c < w.cols; ++c) {
        const double product = row[c] * x[t * w.cols + c];
        sum += product;
        squares += product * product;
      }
      expected.value[t * w.rows + r] = sum;
      expected.magnitude[t * w.rows + r] = std::sqrt(squares);
    }
  });
  return expected;
}

inline std::vector<double> host_norm(const Floats& x, const Floats* norm, double eps, std::int64_t cols) {
  std::vector<double> out(x.begin(), x.end());
  if (norm == nullptr) return out;
  for (std::size_t t = 0; t < x.size(); t += cols) {
    double squares = 0.0;
    for (std::int64_t c = 0; c < cols; ++c) squares += out[t + c] * out[t + c];
    const double rms = 1.0 / std::sqrt(squares / cols + eps);
    for (std::int64_t c = 0; c < cols; ++c) out[t + c] *= rms * (*norm)[c];
  }
  return out;
}

/// The worst token's L2 error relative to its results' magnitudes; infinite if a result is not finite.
inline double worst_error(const Floats& actual, const Expected& expected, std::int64_t rows) {
  double worst = 0.0;
  for (std::size_t t = 0; t < expected.value.size(); t += rows) {
    double error = 0.0, magnitude = 0.0;
    for (std::int64_t r = 0; r < rows; ++r) {
      const double difference = actual[t + r] - expected.value[t + r];
      error += difference * difference;
      magnitude += expected.magnitude[t + r] * expected.magnitude[t + r];
    }
    const double relative = std::sqrt(error / magnitude);
    worst = std::max(worst, std::isfinite(relative) ? relative : std::numeric_limits<double>::infinity());
  }
  return worst;
}

}  // namespace cga::test
