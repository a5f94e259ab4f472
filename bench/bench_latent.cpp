// The latent codec against its floor: the multiply-adds of its products at the rate of a loop that does
// nothing else, in f32 for coding and for the wide components of decoding, pairs of int16 for the others. All
// groups of a model are coded in turn, as a prompt's are, so that no group's basis is in the first caches.
//
//   bench_latent [threads] [seconds a line] [bits a value] [instruction set, such as AVX2] [decode]
// clang-format off
#define HWY_WANT_AVX3_DL 1
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/bench_latent.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>
// clang-format on

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "base/half.h"
#include "base/thread_pool.h"
#include "cga/codec_plan.h"
#include "kernels/ops.h"
#include "timing.h"

HWY_BEFORE_NAMESPACE();
namespace cga::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Ten chains of n multiply-adds. They start differently: of equal ones a compiler makes one.
/// @param out  [16]  @return multiply-adds done
double multiply_add(std::int64_t n, float* out) {
  const hn::CappedTag<float, 16> f;
  const auto x = hn::Set(f, out[10]), y = hn::Set(f, out[11]);
  auto a = hn::Set(f, out[0]), b = hn::Set(f, out[1]), c = hn::Set(f, out[2]), d = hn::Set(f, out[3]);
  auto e = hn::Set(f, out[4]), g = hn::Set(f, out[5]), h = hn::Set(f, out[6]), i = hn::Set(f, out[7]);
  auto j = hn::Set(f, out[8]), k = hn::Set(f, out[9]);
  for (std::int64_t round = 0; round < n; ++round) {
    a = hn::MulAdd(a, x, y), b = hn::MulAdd(b, x, y), c = hn::MulAdd(c, x, y), d = hn::MulAdd(d, x, y);
    e = hn::MulAdd(e, x, y), g = hn::MulAdd(g, x, y), h = hn::MulAdd(h, x, y), i = hn::MulAdd(i, x, y);
    j = hn::MulAdd(j, x, y), k = hn::MulAdd(k, x, y);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, d)), hn::Add(hn::Add(e, g), hn::Add(h, i)));
  out[0] = hn::GetLane(hn::Add(sum, hn::Add(j, k)));
  return 10.0 * static_cast<double>(n) * static_cast<double>(hn::Lanes(f));
}

#if HWY_TARGET == HWY_SCALAR
double multiply_pairs(std::int64_t n, float* out) {
  return multiply_add(n, out);
}
#else
/// sum + the products of 16-bit numbers, in the order that suits the target.
template <class D>
HWY_INLINE void add_products(D d, hn::VFromD<hn::RepartitionToNarrow<D>> a,
                             hn::VFromD<hn::RepartitionToNarrow<D>> b, hn::VFromD<D>& sum,
                             hn::VFromD<D>& other) {
#if HWY_TARGET == HWY_AVX3_DL
  asm("vpdpwssd %2, %1, %0" : "+v"(sum.raw) : "v"(a.raw), "v"(b.raw));
#else
  sum = hn::ReorderWidenMulAccumulate(d, a, b, sum, other);
#if HWY_ARCH_X86
  asm("" : "+v"(sum.raw));  // one after the other: compilers would rather keep many products in memory
#endif
#endif
}

/// Six chains of products of int16 pairs. No two have equal factors, or compilers would multiply once.
/// @param out  [1]  @return multiply-adds done
double multiply_pairs(std::int64_t n, float* out) {
  const hn::CappedTag<std::int32_t, 16> d;
  const hn::RepartitionToNarrow<decltype(d)> narrow;
  constexpr std::int64_t n_loads = 64;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(narrow));
  alignas(64) std::int16_t factors[n_loads * 32];
  for (std::int64_t i = 0; i < n_loads * 32; ++i) factors[i] = static_cast<std::int16_t>(i % 77);
  const auto factor = [&](float x) HWY_ATTR { return hn::Set(narrow, static_cast<std::int16_t>(x * 99.0f)); };
  const auto p = factor(out[0]), q = factor(out[1]), r = factor(out[2]), s = factor(out[3]);
  const auto t = factor(out[4]), u = factor(out[5]);
  auto a = hn::Zero(d), b = a, c = a, e = a, f = a, g = a, other = a;
  for (std::int64_t round = 0; round < n; ++round) {
    const auto y = hn::Load(narrow, factors + round % n_loads * lanes);
    add_products(d, p, y, a, other), add_products(d, q, y, b, other), add_products(d, r, y, c, other);
    add_products(d, s, y, e, other), add_products(d, t, y, f, other), add_products(d, u, y, g, other);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)), hn::Add(f, g));
  *out = static_cast<float>(hn::GetLane(hn::Add(sum, other)));
  return 6.0 * static_cast<double>(n * lanes);
}
#endif

}  // namespace cga::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cga::bench {
namespace {

HWY_EXPORT(multiply_add);
HWY_EXPORT(multiply_pairs);

/// Multiply-adds a second of all threads together.
struct Rates {
  double floats = 0, pairs = 0;
};

struct Shape {
  const char* name;
  std::int32_t n_groups, n_layers, n_kv_heads, head_dim;  // layers of a group
  std::int64_t m, w;
  RopePairs pairs;

  std::int64_t n() const { return std::int64_t{2} * n_layers * n_kv_heads * head_dim; }
};

constexpr Shape shapes[] = {{"SmolLM2-135M", 3, 10, 3, 64, 2304, 128, RopePairs::interleaved},
                            {"Qwen2.5-1.5B", 4, 7, 2, 128, 2176, 128, RopePairs::halves}};

template <class Loop>
double rate_of(int n_threads, Loop&& loop) {
  ThreadPool pool(n_threads);
  std::array<float, 16> starts;
  for (std::size_t i = 0; i < starts.size(); ++i) starts[i] = 1.0f / static_cast<float>(i + 2);
  std::vector<std::array<float, 16>> outs(static_cast<std::size_t>(n_threads), starts);
  constexpr std::int64_t rounds = 200000;
  double done = 0;
  const Timing timing = time_runs([&] {
    pool.parallel_for(n_threads, [&](std::int64_t i, int) {
      const double n = loop(rounds, outs[static_cast<std::size_t>(i)].data());
      if (i == 0) done = n * n_threads;
    });
  });
  return done / timing.best;
}

Rates measure_rates(int n_threads) {
  return {.floats = rate_of(n_threads, [](std::int64_t n,
                                          float* out) { return HWY_DYNAMIC_DISPATCH(multiply_add)(n, out); }),
          .pairs = rate_of(n_threads, [](std::int64_t n, float* out) {
            return HWY_DYNAMIC_DISPATCH(multiply_pairs)(n, out);
          })};
}

/// Keeps Highway from instruction sets better than the one named, for programs and libraries alike.
bool hold_to(const char* name) {
  for (std::int64_t left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
    const std::int64_t target = left & -left;
    if (std::strcmp(hwy::TargetName(target), name) == 0) {
      hwy::DisableTargets(target - 1);
      return true;
    }
  }
  return false;
}

/// A group with a spectrum like a real one's: 55 % of components have bits at 1.5 bits a value.
class Group {
 public:
  Group(Ops& ops, const Shape& shape, double rate) : n_(static_cast<std::size_t>(shape.n())), w_(shape.w) {
    const auto m = static_cast<std::size_t>(shape.m), w = static_cast<std::size_t>(shape.w);
    mean_.assign(n_, 0.1f);
    scale_.assign(n_, 1.5f);
    for (std::size_t i = 0; i < m; ++i) {
      variance_.push_back(1000.0f / std::pow(1.0f + static_cast<float>(i), 1.15f));
    }
    std::minstd_rand random(1);
    for (std::size_t i = 0; i < w * n_; ++i) wide_.push_back(f32_to_f16(noise(random) * 0.02f));
    for (std::size_t i = 0; i < (m - w) * n_; ++i) {
      codes_.push_back(static_cast<std::int8_t>(noise(random) * 127.0f));
    }
    scales_.assign((m - w) * n_ / 128, f32_to_f16(0.0002f));
    const LatentView view{shape.n(),      shape.m,          shape.w,          mean_.data(),
                          scale_.data(),  variance_.data(), wide_.data(),     codes_.data(),
                          scales_.data(), codebook1.data(), codebook2.data(), codebook4.data()};
    latent = ops.prepare_latent(view);
    layout = plan_layout(view, rate);
  }

  std::unique_ptr<PreparedLatent> latent;
  LatentLayout layout;

  /// Multiply-adds of coding a token, whose wide components are subtracted again, and of decoding one
  /// channel.
  double encode_products() const {
    double sum = 0;
    for (const auto& block : layout.blocks()) {
      sum += static_cast<double>(block_components * latent->n) * (block.first_component < w_ ? 2 : 1);
    }
    return sum;
  }
  double decode_products() const { return static_cast<double>(layout.blocks().size()) * block_components; }

  /// Seconds that the multiply-adds of decoding one channel of one token take at least.
  double decode_floor(const Rates& rates) const {
    double sum = 0;
    for (const auto& block : layout.blocks()) {
      sum +=
          static_cast<double>(block_components) / (block.first_component < w_ ? rates.floats : rates.pairs);
    }
    return sum;
  }
  /// Bytes of basis behind one channel.
  double decode_bytes() const {
    double sum = 0;
    for (const auto& block : layout.blocks()) sum += block_components * (block.first_component < w_ ? 2 : 1);
    return sum;
  }

 private:
  static float noise(std::minstd_rand& random) {
    return static_cast<float>(random() % 2001) / 1000.0f - 1.0f;
  }

  static constexpr std::array<float, 2> codebook1 = {-0.8f, 0.8f};
  static constexpr std::array<float, 4> codebook2 = {-1.5f, -0.45f, 0.45f, 1.5f};
  static constexpr std::array<float, 16> codebook4 = {-2.7f, -2.0f, -1.6f, -1.2f, -0.9f, -0.6f, -0.4f, -0.1f,
                                                      0.1f,  0.4f,  0.6f,  0.9f,  1.2f,  1.6f,  2.0f,  2.7f};
  std::size_t n_;
  std::int64_t w_;
  std::vector<float> mean_, scale_, variance_;
  std::vector<std::uint16_t> wide_, scales_;
  std::vector<std::int8_t> codes_;
};

/// @param products  a token  @param floor  seconds a token
void report(const char* name, const char* what, std::int64_t n_tokens, const Timing& time, double products,
            double floor) {
  const auto n = static_cast<double>(n_tokens);
  std::printf("%-13s %-22s %4ld tokens %9.1f us %9.0f tokens/s %7.2f GMAC/s %4.0f %% of the floor", name,
              what, static_cast<long>(n_tokens), time.median * 1e6, n / time.median,
              n * products / time.median * 1e-9, 100 * n * floor / time.median);
}

/// All groups of a model, rows to code and pages to code them into.
class Model {
 public:
  Model(Ops& ops, const Shape& shape, double bits) : ops_(ops), shape_(shape) {
    for (std::int32_t g = 0; g < shape.n_groups; ++g) groups_.emplace_back(ops, shape, bits);
    x_.resize(static_cast<std::size_t>(most_pages * page_tokens * shape.n()));
    std::minstd_rand random(2);
    for (float& value : x_) value = static_cast<float>(random() % 2001) / 500.0f - 2.0f;
    coded_.resize(static_cast<std::size_t>(most_pages * groups_[0].layout.page_bytes()));
    ids_.resize(4 * most_pages);
    std::iota(ids_.begin(), ids_.end(), 0);
  }

  void encode(std::int64_t n_pages, double seconds, const Rates& rates) {
    const Timing time = time_runs(
        [&] {
          for (const Group& group : groups_) {
            ops_.encode_pages({group.latent.get(), &group.layout, x_.data(), coded_.data(), ids(n_pages)});
          }
        },
        seconds);
    const double products = shape_.n_groups * groups_[0].encode_products();
    report(shape_.name, "encode, all groups", n_pages * page_tokens, time, products, products / rates.floats);
    std::printf("\n");
  }

  /// Keys and values of some layers of each group, other ones of each, as the selection groups of a step are.
  void decode(std::int64_t n_units, std::int32_t n_layers, double seconds, const Rates& rates) {
    const std::int64_t kv_dim = shape_.n_kv_heads * shape_.head_dim;
    const Timing time = time_runs(
        [&] {
          std::int32_t layer = 0;
          for (const Group& group : groups_) {
            const std::int64_t keys = layer % (shape_.n_layers - n_layers + 1) * kv_dim;
            const ChannelRange channels[] = {{keys, n_layers * kv_dim},
                                             {shape_.n() / 2 + keys, n_layers * kv_dim}};
            ops_.decode_units(
                {group.latent.get(), &group.layout, coded_.data(), ids(n_units), channels, x_.data()});
            layer += 3;
          }
        },
        seconds);
    char what[64];
    std::snprintf(what, sizeof what, "decode, %d of %d layers", n_layers, shape_.n_layers);
    const double n_channels = static_cast<double>(shape_.n_groups * 2 * n_layers * kv_dim);
    report(shape_.name, what, n_units * unit_tokens, time, n_channels * groups_[0].decode_products(),
           n_channels * groups_[0].decode_floor(rates));
    std::printf(" %6.1f ns a unit and channel %5.1f GB/s\n",
                time.median * 1e9 / (n_channels * static_cast<double>(n_units)),
                n_channels * groups_[0].decode_bytes() / time.median * 1e-9);
  }

  void frame(std::int64_t n_pages, double seconds) {
    const KvLayout layout{shape_.n_kv_heads, shape_.head_dim, KvElement::bf16};
    std::vector<std::byte> memory(static_cast<std::size_t>(shape_.n_layers * n_pages * layout.page_bytes()));
    std::vector<LayerPages> layers;
    for (std::int32_t l = 0; l < shape_.n_layers; ++l) {
      layers.push_back({memory.data() + l * n_pages * layout.page_bytes(), layout});
    }
    const std::vector<float> cos_sin(static_cast<std::size_t>(4 * n_pages * shape_.head_dim), 0.7f);
    const PageFrame frame{layers, shape_.pairs, 1.0f};
    const auto line = [&](const char* what, const Timing& time) {
      std::printf("%-13s %-22s %4ld tokens %9.1f us %9.0f tokens/s, all groups\n", shape_.name, what,
                  static_cast<long>(n_pages * page_tokens), time.median * 1e6,
                  static_cast<double>(n_pages * page_tokens) / time.median / shape_.n_groups);
    };
    line("gather, a group", time_runs(
                                [&] {
                                  ops_.gather_pages({frame, ids(n_pages), cos_sin.data(), x_.data()});
                                },
                                seconds));
    line("scatter, a group", time_runs(
                                 [&] {
                                   ops_.scatter_units({frame, ids(4 * n_pages), cos_sin.data(), x_.data()});
                                 },
                                 seconds));
  }

  const Group& group() const { return groups_[0]; }

 private:
  static constexpr std::int64_t most_pages = 16;

  std::span<const std::int32_t> ids(std::int64_t n) const {
    return std::span(ids_).first(static_cast<std::size_t>(n));
  }

  Ops& ops_;
  Shape shape_;
  std::vector<Group> groups_;
  std::vector<float> x_;
  std::vector<std::byte> coded_;
  std::vector<std::int32_t> ids_;
};

}  // namespace
}  // namespace cga::bench

int main(int argc, char** argv) {
  using namespace cga::bench;
  if (argc > 4 && !hold_to(argv[4])) {
    std::fprintf(stderr, "no instruction set %s here\n", argv[4]);
    return 1;
  }
  const auto backend = cga::make_backend("cpu", argc > 1 ? std::atoi(argv[1]) : 0);
  const double seconds = argc > 2 ? std::atof(argv[2]) : 1.0;
  const double bits = argc > 3 ? std::atof(argv[3]) : 1.5;
  const bool only_decode = argc > 5;
  const Rates rates = measure_rates(backend->n_threads());
  std::printf("%s: multiplies and adds %.1f G/s in f32, %.1f G/s in pairs of int16\n",
              backend->description().c_str(), rates.floats * 1e-9, rates.pairs * 1e-9);
  for (const Shape& shape : shapes) {
    Model model(backend->ops(), shape, bits);
    const cga::LatentLayout& layout = model.group().layout;
    std::printf("%-13s n %ld, m %ld, %ld components with bits, %ld bits a token and group\n", shape.name,
                static_cast<long>(shape.n()), static_cast<long>(shape.m),
                static_cast<long>(layout.blocks().size() * cga::block_components),
                static_cast<long>(layout.bits_per_token()));
    for (const std::int64_t n_pages : {1, 4, 16}) {
      if (!only_decode) model.encode(n_pages, seconds, rates);
    }
    for (const std::int32_t n_layers : {1, 3, shape.n_layers}) {
      for (const std::int64_t n_units : {1, 2, 4, 8, 16}) model.decode(n_units, n_layers, seconds, rates);
    }
    if (!only_decode) model.frame(4, seconds);
  }
}
#endif  // HWY_ONCE
