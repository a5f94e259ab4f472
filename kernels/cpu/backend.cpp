#include "kernels/cpu/backend.h"

#include <chrono>
#include <string>

#include "backend/host_memory.h"
#include "base/checked.h"
#include "kernels/cpu/cpu_ops.h"

namespace cga::cpu {
namespace {

/// Four independent sums, so that loads and not additions set the pace.
std::uint64_t sum_words(const std::uint64_t* words, std::size_t n) {
  std::uint64_t sums[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= n; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) sums[k] += words[i + k];
  }
  return sums[0] + sums[1] + sums[2] + sums[3];
}

class CpuBackend final : public HostBackend {
 public:
  explicit CpuBackend(int n_threads) : pool_(n_threads), ops_(pool_) {}

  std::string_view name() const override { return "cpu"; }
  std::string description() const override {
    return "CPU, " + std::string(simd_target()) + ", " + std::to_string(pool_.size()) +
           (pool_.size() == 1 ? " thread" : " threads");
  }
  Ops& ops() override { return ops_; }
  int n_threads() const override { return pool_.size(); }

  double time_read(const std::byte* data, std::size_t bytes) override {
    constexpr std::int64_t part_bytes = std::int64_t{1} << 18;
    const auto total = static_cast<std::int64_t>(bytes);
    std::atomic<std::uint64_t> sum{0};
    const auto start = std::chrono::steady_clock::now();
    pool_.parallel_for(div_up(total, part_bytes), [&](std::int64_t part, int) {
      const std::int64_t n = std::min(part_bytes, total - part * part_bytes);
      const auto* words = reinterpret_cast<const std::uint64_t*>(data + part * part_bytes);
      sum.fetch_add(sum_words(words, static_cast<std::size_t>(n) / 8), std::memory_order_relaxed);
    });
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  ThreadPool pool_;
  CpuOps ops_;
};

}  // namespace

std::unique_ptr<Backend> make_backend(int n_threads) {
  return std::make_unique<CpuBackend>(n_threads);
}

}  // namespace cga::cpu
