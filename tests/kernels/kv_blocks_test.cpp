// Pages of q8 and q4 blocks, on both backends. The expected attention is a plain formula: keys and values
// rounded by the weight types' codecs, softmax in f64. Which bits a page holds is a backend's secret, so what
// must not show in them (how tokens arrived) is compared between pages of one backend.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "kernels/ops.h"
#include "quant/hadamard.h"
#include "quant/weight_type.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

using namespace cga;
using cga::test::compare;

namespace {

constexpr double tolerance = 2e-5;  // as ops.h promises

using test::normal;

struct Shape {
  KvElement element;
  std::int32_t head_dim, n_kv_heads, group, n_tokens;
};

/// One sequence: rows of k, v [n_tokens, n_kv_heads, head_dim] and q [n_tokens, n_heads, head_dim].
struct Sequence {
  explicit Sequence(const Shape& s)
      : shape(s), k(normal(size(1), 1)), v(normal(size(1), 2)), q(normal(size(s.group), 3)) {
    for (std::size_t i = 5; i < k.size(); i += 64)
      k[i] *= 20;  // a channel of large values, as real keys have
  }
  std::size_t size(std::int32_t heads) const {
    return static_cast<std::size_t>(shape.n_tokens * shape.n_kv_heads * heads * shape.head_dim);
  }

  Shape shape;
  std::vector<float> k, v, q;
};

/// The pages of a sequence, full of garbage before it is appended.
struct Pages {
  Pages(Backend& b, const Sequence& s, int garbage = 0xff) : backend(b), sequence(s) {
    layout = {s.shape.n_kv_heads, s.shape.head_dim, s.shape.element};
    ids.resize(static_cast<std::size_t>((s.shape.n_tokens + page_tokens - 1) / page_tokens));
    std::iota(ids.rbegin(), ids.rend(), 0);  // pages lie in memory the other way round
    bytes = ids.size() * static_cast<std::size_t>(layout.page_bytes());
    memory = b.allocate(bytes + 64, "test pages");
    std::memset(memory->data(), garbage, bytes + 64);
  }

  LayerPages layer() const { return {memory->data(), layout}; }

  /// @param other  whose tokens to append; null: the sequence's own
  void append(std::int32_t position, std::int32_t n, const Sequence* other = nullptr) {
    const Sequence& from = other != nullptr ? *other : sequence;
    const std::int64_t row = std::int64_t{layout.n_kv_heads} * layout.head_dim;
    const SequenceRows rows{0, n, position, ids};
    backend.ops().append(
        {from.k.data() + position * row, from.v.data() + position * row, layer(), {&rows, 1}});
  }

  std::vector<float> attend(std::int32_t position, std::int32_t n) {
    const std::int32_t n_heads = layout.n_kv_heads * sequence.shape.group;
    const std::int64_t row = std::int64_t{n_heads} * layout.head_dim;
    const SequenceRows rows{0, n, position, ids};
    std::vector<float> out(static_cast<std::size_t>(n * row), 77.0f);
    const float scale = 1.0f / std::sqrt(static_cast<float>(layout.head_dim));
    backend.ops().attend(
        {sequence.q.data() + position * row, out.data(), n_heads, scale, layer(), {&rows, 1}});
    return out;
  }

  bool same_bytes(const Pages& other) const {
    return std::memcmp(memory->data(), other.memory->data(), bytes) == 0;
  }
  bool wrote_beyond(int garbage) const {
    const auto is_garbage = [&](std::byte b) { return b == static_cast<std::byte>(garbage); };
    return !std::all_of(memory->data() + bytes, memory->data() + bytes + 64, is_garbage);
  }

  Backend& backend;
  const Sequence& sequence;
  KvLayout layout;
  std::vector<std::int32_t> ids;
  std::size_t bytes = 0;
  std::unique_ptr<Buffer> memory;
};

/// x as it comes back from blocks.  x: rows of [head_dim]
std::vector<float> rounded(std::vector<float> x, const Shape& shape) {
  const WeightType& type = *find_weight_type(shape.element == KvElement::q8 ? "Q8_0" : "Q4_0");
  const auto turn = [&] {
    if (shape.element == KvElement::q8) return;
    for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(shape.head_dim)) {
      hadamard(x.data() + i, shape.head_dim);
    }
  };
  turn();
  const auto n_blocks = static_cast<std::int64_t>(x.size()) / type.block_values;
  std::vector<std::byte> blocks(static_cast<std::size_t>(n_blocks * type.block_bytes));
  type.encode(x.data(), n_blocks, blocks.data());
  type.decode(blocks.data(), n_blocks, x.data());
  turn();
  return x;
}

/// Softmax attention of rows [position, position + n) over k and v, in f64.
std::vector<float> plain_attention(const Sequence& s, const std::vector<float>& k,
                                   const std::vector<float>& v, std::int32_t position, std::int32_t n) {
  const std::int32_t dim = s.shape.head_dim, n_heads = s.shape.n_kv_heads * s.shape.group;
  const auto at = [&](std::int32_t token, std::int32_t heads, std::int32_t head) {
    return static_cast<std::size_t>((token * heads + head) * dim);
  };
  std::vector<float> out;
  for (std::int32_t t = position; t < position + n; ++t) {
    for (std::int32_t h = 0; h < n_heads; ++h) {
      const float* q = s.q.data() + at(t, n_heads, h);
      std::vector<double> sum(static_cast<std::size_t>(dim) + 1);  // the last: of weights
      for (std::int32_t past = 0; past <= t; ++past) {
        const std::size_t row = at(past, s.shape.n_kv_heads, h / s.shape.group);
        double score = 0;
        for (std::int32_t i = 0; i < dim; ++i) score += double{q[i]} * k[row + static_cast<std::size_t>(i)];
        const double weight = std::exp(score / std::sqrt(dim));
        for (std::size_t i = 0; i < static_cast<std::size_t>(dim); ++i) sum[i] += weight * v[row + i];
        sum.back() += weight;
      }
      for (std::size_t i = 0; i + 1 < sum.size(); ++i) out.push_back(static_cast<float>(sum[i] / sum.back()));
    }
  }
  return out;
}

constexpr KvElement block_types[] = {KvElement::q8, KvElement::q4};

std::string name(const Shape& s) {
  return std::string(s.element == KvElement::q8 ? "q8" : "q4") + ", " + std::to_string(s.n_kv_heads) + " x " +
         std::to_string(s.group) + " heads of " + std::to_string(s.head_dim);
}

}  // namespace

TEST_CASE("the Hadamard transform is Sylvester's matrix, normalised, on each block", "[kv_blocks]") {
  for (const std::int32_t head_dim : {1, 2, 32, 64, 80, 96, 128, 192}) {
    const std::int32_t size = hadamard_size(head_dim);
    CHECK(size == std::min(1 << std::countr_zero(static_cast<unsigned>(head_dim)), head_dim));
    const std::vector<float> x = normal(static_cast<std::size_t>(head_dim), 7);
    std::vector<float> y = x, expected;
    hadamard(y.data(), head_dim);
    for (std::int32_t i = 0; i < head_dim; ++i) {
      double sum = 0;
      for (std::int32_t j = 0; j < size; ++j) {
        const bool minus = std::popcount(static_cast<unsigned>(i % size & j)) % 2 == 1;
        const double value = x[static_cast<std::size_t>(i / size * size + j)];
        sum += minus ? -value : value;
      }
      expected.push_back(static_cast<float>(sum / std::sqrt(size)));
    }
    INFO("head_dim " << head_dim);
    CHECK(compare(y, expected, y.size()).within(1e-6));
    hadamard(y.data(), head_dim);
    CHECK(compare(y, x, y.size()).within(1e-6));  // its own inverse
  }
}

TEST_CASE("a page of blocks takes what the blocks take", "[kv_blocks]") {
  CHECK(KvLayout{3, 64, KvElement::q8}.page_bytes() == 2 * 64 * 3 * 2 * 34);
  CHECK(KvLayout{3, 64, KvElement::q4}.page_bytes() == 2 * 64 * 3 * 2 * 18);
  CHECK(KvLayout{8, 128, KvElement::q4}.page_bytes() == 2 * 64 * 8 * 4 * 18);
}

TEST_CASE("attention over blocks is that over values rounded by the codec", "[kv_blocks]") {
  for (const KvElement element : block_types) {
    for (const std::int32_t head_dim : {32, 64, 96, 128, 160, 256}) {
      for (const std::int32_t group : {1, 3, 7}) {
        const Sequence s({element, head_dim, 2, group, 150});
        const std::vector<float> k = rounded(s.k, s.shape), v = rounded(s.v, s.shape);
        CHECK(k != s.k);
        for (const std::string device : {"scalar", "cpu"}) {
          const auto backend = make_backend(device, device == "cpu" ? 2 : 1);
          Pages pages(*backend, s);
          pages.append(0, 150);
          for (const std::int32_t position : {0, 31, 33, 63, 64, 149}) {
            const auto result = compare(pages.attend(position, 1), plain_attention(s, k, v, position, 1),
                                        static_cast<std::size_t>(head_dim));
            INFO(device << ", " << name(s.shape) << ", position " << position << ": " << result);
            CHECK(result.within(tolerance));
          }
          const auto prompt = compare(pages.attend(40, 70), plain_attention(s, k, v, 40, 70),
                                      static_cast<std::size_t>(head_dim));
          INFO(device << ", " << name(s.shape) << ", 70 tokens: " << prompt);
          CHECK(prompt.within(tolerance));
          CHECK_FALSE(pages.wrote_beyond(0xff));
        }
      }
    }
  }
}

TEST_CASE("both backends agree over blocks at depth, on any number of threads", "[kv_blocks]") {
  for (const KvElement element : block_types) {
    const Sequence s({element, 64, 3, 3, 1001});
    const auto scalar = make_backend("scalar", 1);
    Pages oracle(*scalar, s);
    oracle.append(0, 1001);
    std::vector<float> first;
    for (const int n_threads : {1, 2, 3}) {
      const auto cpu = make_backend("cpu", n_threads);
      Pages pages(*cpu, s);
      pages.append(0, 1001);
      const std::vector<float> actual = pages.attend(1000, 1);
      const auto result = compare(actual, oracle.attend(1000, 1), 64);
      INFO(name(s.shape) << ", " << n_threads << " threads: " << result);
      CHECK(result.within(tolerance));
      if (first.empty()) first = actual;
      CHECK(actual == first);
    }
  }
}

TEST_CASE("how tokens arrive leaves no trace in a page of blocks", "[kv_blocks]") {
  for (const std::string device : {"scalar", "cpu"}) {
    const auto backend = make_backend(device, 2);
    for (const KvElement element : block_types) {
      for (const std::int32_t head_dim : {64, 96}) {
        const Sequence s({element, head_dim, 3, 2, 130});
        INFO(device << ", " << name(s.shape));
        Pages whole(*backend, s), single(*backend, s), parts(*backend, s), again(*backend, s);
        whole.append(0, 130);
        for (std::int32_t t = 0; t < 130; ++t) single.append(t, 1);
        for (const std::int32_t t : {0, 64}) parts.append(t, 64);
        parts.append(128, 2);
        CHECK(single.same_bytes(whole));
        CHECK(parts.same_bytes(whole));
        CHECK(single.attend(129, 1) == whole.attend(129, 1));

        // Cut back, and written again over what stood there.
        Sequence other = s;
        for (float& value : other.k) value = -value;
        for (float& value : other.v) value = -value;
        again.append(0, 71);
        again.append(71, 59, &other);
        CHECK_FALSE(again.same_bytes(whole));
        again.append(71, 59);
        CHECK(again.same_bytes(whole));
      }
    }
  }
}

TEST_CASE("what lies beyond a sequence's end never shows through blocks", "[kv_blocks]") {
  const auto cpu = make_backend("cpu", 2);
  for (const KvElement element : block_types) {
    const Sequence s({element, 64, 2, 3, 100});
    std::vector<float> clean;
    for (const int garbage : {0x00, 0x7c, 0x7f, 0xfc, 0xff}) {  // scales: 0, large, NaN, and negative
      Pages pages(*cpu, s, garbage);
      pages.append(0, 70);
      const std::vector<float> out = pages.attend(40, 30);
      if (clean.empty()) clean = out;
      CHECK(out == clean);
    }
  }
}

TEST_CASE("the transform spreads a large channel over the head", "[kv_blocks]") {
  const Sequence s({KvElement::q4, 64, 2, 1, 100});
  const auto error = [&](bool turned) {
    std::vector<float> back = s.k;
    if (turned) {
      back = rounded(s.k, s.shape);
    } else {
      const WeightType& type = *find_weight_type("Q4_0");
      std::vector<std::byte> blocks(s.k.size() / 32 * 18);
      type.encode(s.k.data(), static_cast<std::int64_t>(s.k.size()) / 32, blocks.data());
      type.decode(blocks.data(), static_cast<std::int64_t>(s.k.size()) / 32, back.data());
    }
    double sum = 0;
    for (std::size_t i = 0; i < back.size(); ++i) sum += (back[i] - s.k[i]) * (back[i] - s.k[i]);
    return sum;
  };
  CHECK(error(true) < 0.7 * error(false));
}
