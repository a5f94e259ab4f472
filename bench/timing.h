// What the kernel benchmarks share: medians of repeated runs, and the machine's own limits measured in the
// same process, so that a result can be stated as a share of them.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "backend/backend.h"

namespace cga::bench {

inline double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Timing {
  double median = 0, best = 0;  // seconds a run
};

/// Runs `body` until `budget` seconds have gone, at least 5 times, after one run that does not count.
template <class Body>
Timing time_runs(Body&& body, double budget = 0.3) {
  body();
  std::vector<double> runs;
  for (const double end = seconds_now() + budget; runs.size() < 5 || seconds_now() < end;) {
    const double start = seconds_now();
    body();
    runs.push_back(seconds_now() - start);
  }
  std::sort(runs.begin(), runs.end());
  return {runs[runs.size() / 2], runs.front()};
}

/// Larger than the last-level cache of the machines this is run on.
inline constexpr std::size_t beyond_cache = std::size_t{256} << 20;

/// Bytes a second that all of the backend's threads read from memory together; the best of several passes,
/// because it stands for what the machine can do.
inline double read_bandwidth(Backend& backend) {
  const auto buffer = backend.allocate(beyond_cache, "the bandwidth measurement");
  std::memset(buffer->data(), 1, beyond_cache);
  double best = 1e30;
  for (int i = 0; i < 8; ++i) best = std::min(best, backend.time_read(buffer->data(), beyond_cache));
  return static_cast<double>(beyond_cache) / best;
}

/// Evicts what earlier runs left in the caches.
class CacheFlush {
 public:
  void operator()() {
    for (std::size_t i = 0; i < bytes_.size(); i += 64) ++bytes_[i];
  }

 private:
  std::vector<unsigned char> bytes_ = std::vector<unsigned char>(std::size_t{64} << 20);
};

/// Cycles a second under load, from a chain of multiplications of 3 cycles each (so on every x86-64 and ARM
/// core since about 2010).
inline double clock_rate() {
  constexpr std::int64_t steps = 20'000'000;
  double best = 1e30;
  for (int run = 0; run < 5; ++run) {
    volatile std::uint64_t seed = 3;
    const std::uint64_t factor = seed;
    std::uint64_t x = factor;
    const double start = seconds_now();
    for (std::int64_t i = 0; i < steps; ++i) x *= factor + x;
    seed = x;
    best = std::min(best, seconds_now() - start);
  }
  return 4.0 * steps / best;  // an addition and a multiplication
}

}  // namespace cga::bench
