// Residents: units in int8 with a scale for each token, head and of keys and values. Both backends against a
// plain formula and each other, whatever is chosen of them; what one unit holds leaves no trace in another.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/half.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

using namespace cga;
using cga::test::compare;
using cga::test::normal;

namespace {

constexpr std::int32_t n_pages = 5;
constexpr std::int32_t n_units = n_pages * page_units;
constexpr double tolerance = 2e-5;  // of attend, as ops.h promises

struct Shape {
  std::int32_t n_kv_heads, group, head_dim;
  std::size_t kv_dim() const { return static_cast<std::size_t>(n_kv_heads * head_dim); }
};

const Shape shapes[] = {{3, 3, 64}, {1, 1, 16}, {2, 6, 128}, {1, 7, 80}, {2, 1, 48}, {2, 2, 10}};

/// Rows of scatter_units: for each of n_units * 16 tokens all heads' keys, then all heads' values.
std::vector<float> channels(const Shape& shape, std::uint32_t seed = 4) {
  std::vector<float> x = normal(static_cast<std::size_t>(n_units * unit_tokens) * 2 * shape.kv_dim(), seed);
  for (std::size_t i = 3; i < x.size(); i += 2 * shape.kv_dim()) x[i] *= 20;  // as real keys have
  return x;
}

/// One layer: pages of one sequence in bf16, and as many of residents, full of x.
class Layer {
 public:
  Layer(const std::string& device, const Shape& shape, const std::vector<float>& x, float angle = 0)
      : shape_(shape), backend_(make_backend(device, 2)) {
    const KvLayout exact{shape.n_kv_heads, shape.head_dim, KvElement::bf16};
    const KvLayout residents{shape.n_kv_heads, shape.head_dim, KvElement::i8};
    REQUIRE(2 * residents.page_bytes() == exact.page_bytes());
    memory_ = filled(n_pages * exact.page_bytes());
    codes_ = filled(n_pages * residents.page_bytes());
    scales_ = filled(n_pages * residents.page_scale_bytes());
    pages_ = {memory_->data(), exact};
    residents_ = {codes_->data(), residents, scales_->data()};
    for (std::int32_t p = 0; p < n_pages; ++p) ids_.push_back(p);
    const std::size_t n = static_cast<std::size_t>(n_pages * page_tokens) * shape.kv_dim();
    k_ = normal(n, 1), v_ = normal(n, 2);
    const SequenceRows all{0, n_pages * page_tokens, 0, ids_};
    backend_->ops().append({k_.data(), v_.data(), pages_, {&all, 1}});
    std::vector<std::int32_t> units(n_units);
    for (std::int32_t u = 0; u < n_units; ++u) units[static_cast<std::size_t>(u)] = u;
    scatter(units, x, angle);
  }

  /// @param angle  by which pair 0 of every key is turned
  void scatter(const std::vector<std::int32_t>& units, const std::vector<float>& x, float angle = 0) {
    const auto half = static_cast<std::size_t>(shape_.head_dim / 2);
    std::vector<float> cos_sin(units.size() * 2 * half, 0.0f);
    for (std::size_t u = 0; u < units.size(); ++u) {
      for (std::size_t i = 0; i < half; ++i) {
        cos_sin[u * 2 * half + i] = i == 0 ? std::cos(angle) : 1.0f;
        cos_sin[u * 2 * half + half + i] = i == 0 ? std::sin(angle) : 0.0f;
      }
    }
    backend_->ops().scatter_units({{{&residents_, 1}}, units, cos_sin.data(), x.data()});
  }

  std::vector<float> attend(std::vector<SequenceRows> rows) const {
    const std::vector<float> q = queries(rows);
    std::vector<float> out(q.size(), 77.0f);
    backend_->ops().attend(
        {q.data(), out.data(), shape_.n_kv_heads * shape_.group, scale(), pages_, rows, residents_});
    return out;
  }

  std::vector<float> mass(std::vector<SequenceRows> rows, std::int64_t stride) const {
    const std::vector<float> q = queries(rows);
    std::vector<float> mass(rows.size() * static_cast<std::size_t>(stride));
    backend_->ops().attention_mass(
        {q.data(), shape_.n_kv_heads * shape_.group, scale(), pages_, rows, mass.data(), stride, residents_});
    return mass;
  }

  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  std::span<const std::int32_t> ids() const { return ids_; }
  const std::vector<float>& k() const { return k_; }
  const std::vector<float>& v() const { return v_; }

  /// Numbers the rows and makes their queries.
  std::vector<float> queries(std::vector<SequenceRows>& rows) const {
    std::int32_t n = 0;
    for (SequenceRows& row : rows) {
      row.first_row = n;
      n += row.n_tokens;
    }
    return normal(static_cast<std::size_t>(n * shape_.group) * shape_.kv_dim(), 3);
  }

 private:
  /// Memory whose bits are NaN as bf16: whatever is read though nothing was written there shows.
  std::unique_ptr<Buffer> filled(std::int64_t bytes) const {
    auto buffer = backend_->allocate(static_cast<std::size_t>(bytes), "test pages");
    std::memset(buffer->data(), 0xff, buffer->size());
    return buffer;
  }

  Shape shape_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Buffer> memory_, codes_, scales_;
  LayerPages pages_, residents_;
  std::vector<std::int32_t> ids_;
  std::vector<float> k_, v_;
};

/// Unit `first` of the pages alone in its four, n residents anywhere, then pages from page 1 on.
struct Choice {
  Choice(std::int32_t n, std::uint32_t seed, std::int32_t first = 0) {
    std::mt19937 random(seed);
    for (std::int32_t u = 0; u < n_units; ++u) residents.push_back(u);
    std::shuffle(residents.begin(), residents.end(), random);
    residents.resize(static_cast<std::size_t>(n));
    units = {first, no_unit, no_unit, no_unit};
    for (const std::int32_t unit : residents) units.push_back(resident_unit(unit));
    while (units.size() % page_units != 0) units.push_back(no_unit);
    before = static_cast<std::int32_t>(units.size()) * unit_tokens;
    for (std::int32_t u = page_units; u < n_units; ++u) units.push_back(u);
  }
  /// A row, or several, at what is position `in_window` of page 1 on.
  SequenceRows rows(std::int32_t in_window, std::int32_t n = 1) const {
    return {0, n, before + in_window, {}, units};
  }
  std::vector<std::int32_t> residents, units;
  std::int32_t before = 0;
};

/// What a vector of residents is: the largest magnitude over 127 in bf16 is a step.
std::vector<double> rounded(const float* from, std::int32_t head_dim) {
  float largest = 0;
  for (std::int32_t i = 0; i < head_dim; ++i) largest = std::max(largest, std::abs(from[i]));
  const double step = bf16_to_f32(f32_to_bf16(largest / 127.0f));
  std::vector<double> result;
  for (std::int32_t i = 0; i < head_dim; ++i)
    result.push_back(step == 0 ? 0.0 : std::nearbyint(from[i] / step) * step);
  return result;
}

/// Attention of a single row over a choice, from the values that went in.
std::vector<float> formula(const Shape& shape, const Layer& layer, const std::vector<float>& x,
                           const Choice& choice, std::int32_t in_window) {
  std::vector<SequenceRows> rows{choice.rows(in_window)};
  const std::vector<float> q = layer.queries(rows);
  const auto head_dim = static_cast<std::size_t>(shape.head_dim);
  std::vector<float> out;
  for (std::int32_t h = 0; h < shape.n_kv_heads * shape.group; ++h) {
    const std::size_t at = static_cast<std::size_t>(h / shape.group) * head_dim;
    std::vector<std::vector<double>> keys, values;
    for (const std::int32_t unit : choice.residents) {
      for (std::int32_t t = unit * unit_tokens; t < (unit + 1) * unit_tokens; ++t) {
        const float* row = &x[static_cast<std::size_t>(t) * 2 * shape.kv_dim()];
        keys.push_back(rounded(row + at, shape.head_dim));
        values.push_back(rounded(row + shape.kv_dim() + at, shape.head_dim));
      }
    }
    const auto add_exact = [&](std::int32_t token) {
      const std::size_t from = static_cast<std::size_t>(token) * shape.kv_dim() + at;
      std::vector<double> key, value;
      for (std::size_t i = 0; i < head_dim; ++i) {
        key.push_back(bf16_to_f32(f32_to_bf16(layer.k()[from + i])));
        value.push_back(bf16_to_f32(f32_to_bf16(layer.v()[from + i])));
      }
      keys.push_back(key);
      values.push_back(value);
    };
    for (std::int32_t t = 0; t < unit_tokens; ++t) add_exact(t);
    for (std::int32_t t = 0; t <= in_window; ++t) add_exact(page_tokens + t);
    double sum = 0;
    std::vector<double> total(head_dim);
    for (std::size_t s = 0; s < keys.size(); ++s) {
      double score = 0;
      for (std::size_t i = 0; i < head_dim; ++i) {
        score += q[static_cast<std::size_t>(h) * head_dim + i] * keys[s][i];
      }
      const double weight = std::exp(score * layer.scale());
      sum += weight;
      for (std::size_t i = 0; i < head_dim; ++i) total[i] += weight * values[s][i];
    }
    for (const double value : total) out.push_back(static_cast<float>(value / sum));
  }
  return out;
}

TEST_CASE("attention over residents is attention over vectors rounded to 127 steps of their own", "[i8]") {
  for (const Shape& shape : shapes) {
    const std::vector<float> x = channels(shape);
    for (const std::string device : {"scalar", "cpu"}) {
      const Layer layer(device, shape, x);
      for (const std::int32_t n : {0, 1, 2, 3, 4, 7, n_units}) {
        for (const std::int32_t in_window : {0, 15, 63, 100}) {
          const Choice choice(n, static_cast<std::uint32_t>(n));
          const auto result =
              compare(layer.attend({choice.rows(in_window)}), formula(shape, layer, x, choice, in_window),
                      static_cast<std::size_t>(shape.head_dim));
          INFO(device << ", head_dim " << shape.head_dim << ", " << n << " residents: " << result);
          CHECK(result.within(tolerance));
        }
      }
    }
  }
}

TEST_CASE("choices of residents agree with the reference, beside rows that read pages", "[i8]") {
  for (const Shape& shape : shapes) {
    const std::vector<float> x = channels(shape);
    const Layer reference("scalar", shape, x), cpu("cpu", shape, x);
    std::vector<Choice> choices;
    for (const std::int32_t n : {1, 5, 6, 12, 17, 20}) choices.emplace_back(n, static_cast<std::uint32_t>(n));
    std::vector<SequenceRows> rows;
    std::mt19937 random(7);
    for (const Choice& choice : choices) {
      rows.push_back(choice.rows(static_cast<std::int32_t>(random() % 200)));
      rows.push_back({0, 1, static_cast<std::int32_t>(random() % 300), reference.ids()});
      rows.push_back(choice.rows(40, 61));  // many rows over one choice, into its next page
    }
    const std::vector<float> expected = reference.attend(rows), found = cpu.attend(rows);
    const auto result = compare(found, expected, static_cast<std::size_t>(shape.head_dim));
    INFO("head_dim " << shape.head_dim << ": " << result);
    CHECK(result.within(tolerance));
    const std::vector<float> first = cpu.attend({rows[6]});  // neighbours leave no trace
    const std::vector<float> again = cpu.attend({rows[6], rows[0], rows[8]});
    CHECK(std::equal(first.begin(), first.end(), again.begin()));
  }
}

TEST_CASE("mass on residents agrees with the reference, and none is where nothing is", "[i8]") {
  for (const Shape& shape : shapes) {
    const std::vector<float> x = channels(shape);
    const Layer reference("scalar", shape, x), cpu("cpu", shape, x);
    constexpr std::int64_t stride = 64;
    for (const std::int32_t n : {1, 4, 7}) {
      const Choice choice(n, 3, 5);  // the first unit is one from the middle of a page
      const std::vector<SequenceRows> rows{choice.rows(20), choice.rows(70), {0, 1, 130, cpu.ids()}};
      const std::vector<float> expected = reference.mass(rows, stride), found = cpu.mass(rows, stride);
      const auto result = compare(found, expected, static_cast<std::size_t>(stride));
      INFO("head_dim " << shape.head_dim << ", " << n << " residents: " << result);
      CHECK(result.within(1e-4));
      CHECK(found[1] == 0.0f);
      CHECK(found[0] > 0.0f);
      CHECK(found[4] > 0.0f);
    }
  }
}

TEST_CASE("turned keys become nearly the same codes on both backends", "[i8]") {
  for (const Shape& shape : shapes) {
    const std::vector<float> x = channels(shape);
    const Layer reference("scalar", shape, x, 0.7f), cpu("cpu", shape, x, 0.7f), still("cpu", shape, x);
    const Choice choice(n_units, 1);
    const std::vector<SequenceRows> rows{choice.rows(30)};
    const std::vector<float> expected = reference.attend(rows);
    const auto result = compare(cpu.attend(rows), expected, static_cast<std::size_t>(shape.head_dim));
    INFO("head_dim " << shape.head_dim << ": " << result);
    CHECK(result.within(2e-3));  // a code that is a step off
    CHECK(!compare(still.attend(rows), expected, static_cast<std::size_t>(shape.head_dim)).within(2e-2));
  }
}

TEST_CASE("a unit leaves all others as they are, and becomes what it would be anywhere", "[i8]") {
  for (const std::string device : {"scalar", "cpu"}) {
    for (const Shape& shape : shapes) {
      const std::vector<float> x = channels(shape), other = channels(shape, 9);
      const Layer before(device, shape, x);
      Layer after(device, shape, x);
      after.scatter({6, 13}, other);
      Choice without(n_units, 2), with(n_units, 2), moved(n_units, 2);
      const auto use = [](Choice& choice, const std::vector<std::int32_t>& residents) {
        for (std::size_t i = 0; i < residents.size(); ++i) {
          choice.units[page_units + i] = resident_unit(residents[i]);
        }
      };
      std::vector<std::int32_t> rest = without.residents;
      std::replace(rest.begin(), rest.end(), 6, 5);
      std::replace(rest.begin(), rest.end(), 13, 12);
      use(without, rest);
      INFO(device << ", head_dim " << shape.head_dim);
      CHECK(after.attend({without.rows(9)}) == before.attend({without.rows(9)}));
      CHECK(after.attend({with.rows(9)}) != before.attend({with.rows(9)}));

      // The first two units of `other` lie at 6 and 13 there, at 0 and 1 in a layer that is full of it.
      const Layer full(device, shape, other);
      use(with, std::vector<std::int32_t>{6, 13, 6, 13});
      use(moved, std::vector<std::int32_t>{0, 1, 0, 1});
      const auto first_four = [](const Choice& choice) {
        std::vector<std::int32_t> units(choice.units.begin(), choice.units.begin() + 2 * page_units);
        units.push_back(page_units);
        return units;
      };
      const std::vector<std::int32_t> there = first_four(with), here = first_four(moved);
      const SequenceRows a{0, 1, 2 * page_tokens + 3, {}, there}, b{0, 1, 2 * page_tokens + 3, {}, here};
      CHECK(after.attend({a}) == full.attend({b}));
    }
  }
}

TEST_CASE("zeros, and values near the ends of what f32 holds, stay finite", "[i8]") {
  for (const std::string device : {"scalar", "cpu"}) {
    for (const Shape& shape : shapes) {
      std::vector<float> x = channels(shape);
      const std::size_t row = 2 * shape.kv_dim();
      for (std::size_t t = 0; t < x.size() / row; ++t) {
        for (std::size_t i = 0; i < row; ++i) {
          const float factors[] = {0.0f, 1e-42f, 1e-36f, 1.0f};
          x[t * row + i] *= factors[t % 4];
          if (t % 8 == 3 && i >= shape.kv_dim()) x[t * row + i] *= 1e30f;  // values: keys would overflow
        }
      }
      const Layer layer(device, shape, x);
      const Choice choice(n_units, 5);
      const auto result = compare(layer.attend({choice.rows(20)}), formula(shape, layer, x, choice, 20),
                                  static_cast<std::size_t>(shape.head_dim));
      INFO(device << ", head_dim " << shape.head_dim << ": " << result);
      CHECK(result.within(tolerance));
    }
  }
}

}  // namespace
