// Attention against its floors. Decode reads every key and value once: its floor is those bytes at the
// bandwidth that plain reading reaches on the same threads. Prefill multiplies: its floor is the
// multiply-adds at the rate of a loop that does nothing else. Layers are rotated so that no layer's pages are
// still in cache.
//
//   bench_attention [threads] [seconds a line]
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/bench_attention.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>
// clang-format on

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "base/checked.h"
#include "base/thread_pool.h"
#include "kernels/ops.h"
#include "timing.h"

HWY_BEFORE_NAMESPACE();
namespace cga::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Ten independent chains of n multiply-adds. @return multiply-adds done
double multiply_add(std::int64_t n, float* out) {
  const hn::CappedTag<float, 16> f;
  auto a = hn::Set(f, out[0]), b = a, c = a, d = a, e = a, g = a, h = a, i = a, j = a, k = a;
  const auto x = hn::Set(f, out[1]), y = hn::Set(f, out[2]);
  for (std::int64_t round = 0; round < n; ++round) {
    a = hn::MulAdd(a, x, y), b = hn::MulAdd(b, x, y), c = hn::MulAdd(c, x, y), d = hn::MulAdd(d, x, y);
    e = hn::MulAdd(e, x, y), g = hn::MulAdd(g, x, y), h = hn::MulAdd(h, x, y), i = hn::MulAdd(i, x, y);
    j = hn::MulAdd(j, x, y), k = hn::MulAdd(k, x, y);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, d)), hn::Add(hn::Add(e, g), hn::Add(h, i)));
  out[0] = hn::GetLane(hn::Add(sum, hn::Add(j, k)));
  return 10.0 * static_cast<double>(n) * static_cast<double>(hn::Lanes(f));
}

}  // namespace cga::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cga::bench {
namespace {

HWY_EXPORT(multiply_add);

struct Shape {
  const char* name;
  std::int32_t n_heads, n_kv_heads, head_dim;
};

constexpr Shape shapes[] = {
    {"SmolLM2-135M", 9, 3, 64}, {"Qwen2.5-1.5B", 12, 2, 128}, {"Llama-3-8B", 32, 8, 128}};

/// Multiply-adds a second of all threads together.
double multiply_add_rate(int n_threads) {
  ThreadPool pool(n_threads);
  std::vector<std::array<float, 16>> outs(static_cast<std::size_t>(n_threads), {1.0f, 0.5f, 0.25f});
  constexpr std::int64_t rounds = 200000;
  double done = 0;
  const Timing timing = time_runs([&] {
    pool.parallel_for(n_threads, [&](std::int64_t i, int) {
      const double n = HWY_DYNAMIC_DISPATCH(multiply_add)(rounds, outs[static_cast<std::size_t>(i)].data());
      if (i == 0) done = n * n_threads;
    });
  });
  return done / timing.best;
}

std::vector<float> random_floats(std::size_t n) {
  std::vector<float> values(n);
  std::minstd_rand generator(1);
  for (float& value : values) value = static_cast<float>(generator() % 2001) / 1000.0f - 1.0f;
  return values;
}

/// Pages of `position + n_tokens` tokens on enough layers to defeat the caches, and a batch that attends to
/// them.
class Run {
 public:
  Run(Backend& backend, const Shape& shape, KvElement element, std::int32_t position, std::int32_t n_tokens)
      : ops_(backend.ops()), shape_(shape), layout_{shape.n_kv_heads, shape.head_dim, element} {
    const std::int32_t n_pages = div_up(position + n_tokens, page_tokens);
    layer_bytes_ = static_cast<std::size_t>(n_pages * layout_.page_bytes());
    n_layers_ = std::max<std::size_t>(2, div_up(beyond_cache, layer_bytes_));
    memory_ = backend.allocate(n_layers_ * layer_bytes_, "pages");
    pages_.resize(static_cast<std::size_t>(n_pages));
    std::iota(pages_.begin(), pages_.end(), 0);
    std::shuffle(pages_.begin(), pages_.end(), std::minstd_rand(2));
    fill();
    const auto row = static_cast<std::size_t>(n_tokens * shape.n_heads * shape.head_dim);
    q_ = random_floats(row);
    out_.resize(row);
    rows_ = {{0, n_tokens, position, pages_}};
  }

  void step() {
    const LayerPages layer{memory_->data() + layer_bytes_ * (next_++ % n_layers_), layout_};
    ops_.attend({q_.data(), out_.data(), shape_.n_heads, 0.125f, layer, rows_});
  }

 private:
  void fill() {  // as bf16 between 0.5 and 1, either sign: any arrangement of such is valid, as scales too
    const auto halves = reinterpret_cast<std::uint16_t*>(memory_->data());
    std::minstd_rand generator(3);
    for (std::size_t i = 0; i < memory_->size() / 2; ++i) {
      const auto bits = static_cast<std::uint32_t>(generator());
      halves[i] = static_cast<std::uint16_t>(0x3f00u | (bits & 0x7fu) | (bits << 8 & 0x8000u));
    }
  }

  Ops& ops_;
  Shape shape_;
  KvLayout layout_;
  std::size_t layer_bytes_ = 0, n_layers_ = 0, next_ = 0;
  std::unique_ptr<Buffer> memory_;
  std::vector<std::int32_t> pages_;
  std::vector<float> q_, out_;
  std::vector<SequenceRows> rows_;
};

struct Cache {
  KvElement element;
  const char* name;
};

void bench_decode(Backend& backend, const Shape& shape, const Cache& cache, std::int32_t depth,
                  double seconds, double bandwidth) {
  Run run(backend, shape, cache.element, depth - 1, 1);
  const Timing time = time_runs([&] { run.step(); }, seconds);
  const KvLayout layout{shape.n_kv_heads, shape.head_dim, cache.element};
  const double bytes = 2.0 * shape.n_kv_heads * static_cast<double>(layout.vector_bytes()) * depth;
  std::printf("%-13s %-4s decode  depth %5d %10.1f us %10.1f us best %7.2f GB/s  %4.0f %% of the floor\n",
              shape.name, cache.name, depth, time.median * 1e6, time.best * 1e6, bytes / time.median * 1e-9,
              100 * bytes / bandwidth / time.median);
}

void bench_prefill(Backend& backend, const Shape& shape, const Cache& cache, std::int32_t length,
                   double seconds, double rate) {
  Run run(backend, shape, cache.element, 0, length);
  const Timing time = time_runs([&] { run.step(); }, seconds);
  const double products = 2.0 * shape.n_heads * shape.head_dim * (0.5 * length * (length + 1));
  std::printf("%-13s %-4s prefill length %4d %10.1f us %10.1f us best %7.2f GMAC/s %4.0f %% of the floor\n",
              shape.name, cache.name, length, time.median * 1e6, time.best * 1e6,
              products / time.median * 1e-9, 100 * products / rate / time.median);
}

}  // namespace
}  // namespace cga::bench

int main(int argc, char** argv) {
  using namespace cga::bench;
  const auto backend = cga::make_backend("cpu", argc > 1 ? std::atoi(argv[1]) : 0);
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1.0;
  const double bandwidth = read_bandwidth(*backend), rate = multiply_add_rate(backend->n_threads());
  std::printf("%s: reads %.2f GB/s, multiplies and adds %.1f G/s\n", backend->description().c_str(),
              bandwidth * 1e-9, rate * 1e-9);
  for (const Shape& shape : shapes) {
    constexpr Cache bf16{cga::KvElement::bf16, "bf16"};
    for (const std::int32_t depth : {512, 4096, 32768}) {
      bench_decode(*backend, shape, bf16, depth, seconds, bandwidth);
    }
    for (const std::int32_t length : {512, 4096}) bench_prefill(*backend, shape, bf16, length, seconds, rate);
    for (const Cache& blocks : {Cache{cga::KvElement::q8, "q8"}, Cache{cga::KvElement::q4, "q4"}}) {
      bench_decode(*backend, shape, blocks, 4096, seconds, bandwidth);
      bench_prefill(*backend, shape, blocks, 512, seconds, rate);
    }
  }
}
#endif  // HWY_ONCE
