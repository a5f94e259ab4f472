// The ops of the index: keys rounded as docs/sidecar.md says, scores, the choice, and the attention mass;
// each against the scalar backend, and against what the definition says outright.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "base/checked.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

using namespace cga;

namespace {

using test::normal;

struct Shape {
  std::int32_t n_heads, width;
};
const Shape shapes[] = {{1, 4}, {3, 12}, {12, 32}, {16, 64}, {7, 32}, {13, 128}, {6, 100}};

/// Keys of one sequence on one backend, its pages in reverse order and between poisoned ones.
class Keys {
 public:
  Keys(const char* device, const Shape& shape, std::int32_t n_tokens)
      : shape_(shape), n_tokens_(n_tokens), backend_(make_backend(device, 2)) {
    const IndexLayout layout{shape.width};
    const std::int32_t n_pages = div_up(n_tokens, page_tokens);
    for (std::int32_t p = 0; p < n_pages; ++p) ids_.push_back(2 * (n_pages - p));
    const auto bytes = static_cast<std::size_t>((2 * n_pages + 2) * layout.page_bytes());
    memory_ = backend_->allocate(bytes, "test keys");
    std::memset(memory_->data(), 0x7f, bytes);
    pages_ = {memory_->data(), layout};
    k_ = normal(static_cast<std::size_t>(n_tokens * shape.width), 1);
    std::fill_n(k_.begin() + shape.width, shape.width, 0.0f);  // a key of zeros has the scale 1
    angles_ = angles(n_tokens, 0);
    std::int32_t done = 0;
    for (const std::int32_t n : {1, 70, n_tokens - 71}) {  // in pieces
      const SequenceRows rows{0, n, done, ids_};
      backend_->ops().index_keys(
          {k_.data() + done * shape.width, angles_.data() + done * shape.width / 2, pages_, {&rows, 1}});
      done += n;
    }
  }

  /// cos and sin of a quarter of the width, [n, 2, width/4]
  std::vector<float> angles(std::int32_t n, std::int32_t first) const {
    std::vector<float> inverse(static_cast<std::size_t>(shape_.width / 4));
    for (std::size_t i = 0; i < inverse.size(); ++i) inverse[i] = 0.02f / static_cast<float>(i + 1);
    std::vector<std::int32_t> positions(static_cast<std::size_t>(n));
    std::iota(positions.begin(), positions.end(), first);
    std::vector<float> out(static_cast<std::size_t>(n * shape_.width / 2));
    backend_->ops().rope_angles(out.data(), positions, inverse, 1.0f);
    return out;
  }

  float value(std::int32_t token, std::int32_t channel) const {
    const IndexUnit unit = index_unit(pages_.base, pages_.layout, ids_.data(), token / unit_tokens);
    return unit.scales[token % unit_tokens] * unit.codes[channel * unit_tokens + token % unit_tokens];
  }
  std::vector<std::byte> bytes() const { return {memory_->data(), memory_->data() + memory_->size()}; }
  void take(const std::vector<std::byte>& bytes) { std::copy(bytes.begin(), bytes.end(), memory_->data()); }

  /// Scores of n_rows queries over units [first, last): [n_rows, last]; what is not written is -7.
  std::vector<float> scores(std::int32_t n_rows, std::int32_t first, std::int32_t last,
                            std::int32_t only = -1) const {
    const auto q = normal(static_cast<std::size_t>(n_rows * shape_.n_heads * shape_.width), 5);
    const auto weights = normal(static_cast<std::size_t>(n_rows * shape_.n_heads), 6);
    const auto cos_sin = angles(n_rows, n_tokens_);
    std::vector<ScoredRow> rows;
    for (std::int32_t r = 0; r < n_rows; ++r) {
      if (only < 0 || r == only) rows.push_back({r, first, last, ids_});
    }
    std::vector<float> out(rows.size() * static_cast<std::size_t>(last), -7.0f);
    backend_->ops().score_units(
        {q.data(), weights.data(), cos_sin.data(), shape_.n_heads, pages_, rows, out.data(), last});
    return out;
  }

  const std::vector<float>& k() const { return k_; }
  const std::vector<float>& angles() const { return angles_; }
  Backend& backend() const { return *backend_; }

 private:
  Shape shape_;
  std::int32_t n_tokens_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Buffer> memory_;
  IndexPages pages_;
  std::vector<std::int32_t> ids_;
  std::vector<float> k_, angles_;
};

TEST_CASE("keys of the index are rotated in their second half and rounded to 127 steps") {
  for (const Shape& shape : shapes) {
    for (const char* device : {"scalar", "cpu"}) {
      INFO(device << ", width " << shape.width);
      const std::int32_t n_tokens = 201;
      const Keys keys(device, shape, n_tokens);
      const std::int32_t pairs = shape.width / 4, still = shape.width - 2 * pairs;
      double worst = 0;
      for (std::int32_t t = 0; t < n_tokens; ++t) {
        const float* k = keys.k().data() + t * shape.width;
        const float* angle = keys.angles().data() + t * shape.width / 2;
        std::vector<float> expected(k, k + shape.width);
        for (std::int32_t i = 0; i < pairs; ++i) {
          const float a = k[still + i], b = k[still + pairs + i];
          expected[static_cast<std::size_t>(still + i)] = a * angle[i] - b * angle[pairs + i];
          expected[static_cast<std::size_t>(still + pairs + i)] = b * angle[i] + a * angle[pairs + i];
        }
        float largest = 0;
        for (const float x : expected) largest = std::max(largest, std::abs(x));
        for (std::int32_t c = 0; c < shape.width; ++c) {
          const double error = std::abs(keys.value(t, c) - expected[static_cast<std::size_t>(c)]);
          worst = std::max(worst, largest > 0 ? error * 127 / largest : error);
        }
      }
      CHECK(worst < 0.501);  // half a step
      CHECK(worst > 0.3);
    }
  }
}

TEST_CASE("scores agree with the reference, and depend on no neighbour") {
  for (const Shape& shape : shapes) {
    for (const std::int32_t last : {1, 2, 5, 33, 100}) {
      INFO(shape.n_heads << " heads of " << shape.width << ", units to " << last);
      const Keys reference("scalar", shape, 1700);
      Keys cpu("cpu", shape, 1700);
      cpu.take(reference.bytes());
      const std::int32_t first = last > 2 ? 1 : 0;
      const std::vector<float> expected = reference.scores(3, first, last),
                               found = cpu.scores(3, first, last);
      const auto result = test::compare(found, expected, static_cast<std::size_t>(last));
      INFO(result);
      CHECK(result.within(1e-5));
      CHECK((first == 0 || found[0] == -7.0f));  // what was not asked for is not written
      const std::vector<float> alone = cpu.scores(3, first, last, 1);
      CHECK(std::equal(alone.begin(), alone.end(), found.begin() + last));
    }
  }
}

TEST_CASE("the best units are chosen in order, ties to the lower position") {
  for (const char* device : {"scalar", "cpu"}) {
    INFO(device);
    const auto backend = make_backend(device, 2);
    // Few different values, so that most comparisons are ties.
    std::mt19937 random(3);
    std::vector<float> scores(4 * 50);
    for (float& score : scores) score = static_cast<float>(random() % 6);
    const std::vector<ScoredRow> rows{{0, 1, 50, {}}, {1, 1, 30, {}}, {2, 20, 50, {}}, {3, 7, 17, {}}};
    for (const std::int32_t count : {1, 7, 10}) {
      std::vector<std::int32_t> chosen(rows.size() * static_cast<std::size_t>(count), -1);
      backend->ops().top_units(
          {.scores = scores.data(), .stride = 50, .rows = rows, .count = count, .units = chosen.data()});
      for (std::size_t r = 0; r < rows.size(); ++r) {
        const auto row =
            std::span(chosen).subspan(r * static_cast<std::size_t>(count), static_cast<std::size_t>(count));
        const float* own = scores.data() + r * 50;
        REQUIRE(std::is_sorted(row.begin(), row.end()));
        for (std::int32_t u = rows[r].first; u < rows[r].last; ++u) {
          std::int32_t better = 0;  // units that come before u in the order
          for (std::int32_t v = rows[r].first; v < rows[r].last; ++v) {
            better += own[v] > own[u] || (own[v] == own[u] && v < u) ? 1 : 0;
          }
          const bool is_chosen = std::find(row.begin(), row.end(), u) != row.end();
          CHECK(is_chosen == (better < count));
        }
      }
    }
  }
}

TEST_CASE("units that the row before chose have a bonus, from call to call and from row to row") {
  constexpr std::int32_t n_units = 40, count = 6, n_rows = 12;
  constexpr float bonus = 2;
  std::mt19937 random(5);
  std::vector<float> scores(n_rows * n_units);
  for (float& score : scores) score = static_cast<float>(random() % 9);
  const std::vector<std::int32_t> earlier = {1, 2, 3, 11, 12, 39};
  for (const char* device : {"scalar", "cpu"}) {
    INFO(device);
    const auto backend = make_backend(device, 2);
    // Two sequences: the first goes on from an earlier call, the second begins afresh.
    std::vector<std::int32_t> chosen(n_rows * count, -1);
    std::vector<ScoredRow> rows;
    for (std::int32_t r = 0; r < n_rows; ++r) {
      const std::int32_t* before = r == 0 ? earlier.data() : chosen.data() + (r - 1) * count;
      rows.push_back({r, 1, n_units, {}, r == 7 ? nullptr : before, r == 0 ? count : 0});
    }
    backend->ops().top_units({.scores = scores.data(),
                              .stride = n_units,
                              .rows = rows,
                              .count = count,
                              .bonus = bonus,
                              .units = chosen.data()});
    for (std::int32_t r = 0; r < n_rows; ++r) {
      std::vector<float> own(scores.begin() + r * n_units, scores.begin() + (r + 1) * n_units);
      for (std::int32_t j = 0; rows[static_cast<std::size_t>(r)].before != nullptr && j < count; ++j) {
        own[static_cast<std::size_t>(rows[static_cast<std::size_t>(r)].before[j])] += bonus;
      }
      std::vector<std::int32_t> alone(count);
      const ScoredRow row{0, 1, n_units, {}};
      backend->ops().top_units({.scores = own.data(),
                                .stride = n_units,
                                .rows = {&row, 1},
                                .count = count,
                                .units = alone.data()});
      CHECK(std::equal(alone.begin(), alone.end(), chosen.begin() + r * count));
    }
  }
}

TEST_CASE("by need, a row has as many units as it says, within bounds") {
  constexpr std::int32_t n_units = 60, most = 12, mean = 4, least = 2;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  // 0.625 and 0.875 times four lie between two numbers: ties to even.
  const std::vector<float> need{1, 2.4f, 0, -3, 99, inf, -inf, nan, 0.625f, 0.875f, 1.3f};
  const std::vector<std::int32_t> expected{4, 10, 2, 2, 12, 12, 2, 2, 2, 4, 3};
  std::mt19937 random(8);
  std::vector<float> scores(need.size() * n_units);
  for (float& score : scores) score = static_cast<float>(random() % 9);
  const std::vector<std::int32_t> earlier = {1, 2, 39};
  for (const char* device : {"scalar", "cpu"}) {
    INFO(device);
    const auto backend = make_backend(device, 2);
    std::vector<std::int32_t> chosen(need.size() * most, -1), counts(need.size(), -1);
    std::vector<ScoredRow> rows;
    for (std::int32_t r = 0; r < static_cast<std::int32_t>(need.size()); ++r) {
      const std::int32_t* before = r == 0 ? earlier.data() : chosen.data() + (r - 1) * most;
      rows.push_back({r, 1, n_units, {}, r == 6 || r == 10 ? nullptr : before, r == 0 ? 3 : 0});
    }
    rows.back().last = 4;  // three may be chosen, fewer than it wants
    const float bonus = 2;
    backend->ops().top_units({.scores = scores.data(),
                              .stride = n_units,
                              .rows = rows,
                              .count = most,
                              .bonus = bonus,
                              .need = need.data(),
                              .mean = mean,
                              .least = least,
                              .units = chosen.data(),
                              .counts = counts.data()});
    CHECK(counts == expected);
    for (std::size_t r = 0; r < need.size(); ++r) {
      std::vector<float> own(scores.begin() + static_cast<std::ptrdiff_t>(r * n_units),
                             scores.begin() + static_cast<std::ptrdiff_t>((r + 1) * n_units));
      const std::int32_t n_before = rows[r].before == nullptr ? 0 : r == 0 ? 3 : counts[r - 1];
      for (std::int32_t j = 0; j < n_before; ++j) own[static_cast<std::size_t>(rows[r].before[j])] += bonus;
      std::vector<std::int32_t> alone(static_cast<std::size_t>(expected[r]));
      const ScoredRow row{0, 1, rows[r].last, {}};
      backend->ops().top_units({.scores = own.data(),
                                .stride = n_units,
                                .rows = {&row, 1},
                                .count = expected[r],
                                .units = alone.data()});
      CHECK(std::equal(alone.begin(), alone.end(), chosen.begin() + static_cast<std::ptrdiff_t>(r * most)));
    }
  }
}

TEST_CASE("the attention mass of a row sums to its heads, and agrees with the reference") {
  for (const KvElement element : {KvElement::bf16, KvElement::f32}) {
    const KvLayout layout{2, 48, element};
    const std::int32_t n_pages = 5, n_heads = 6, stride = 20;
    std::vector<std::vector<float>> results;
    for (const char* device : {"scalar", "cpu"}) {
      const auto backend = make_backend(device, 2);
      const auto memory = backend->allocate(static_cast<std::size_t>(n_pages * layout.page_bytes()), "pages");
      const LayerPages pages{memory->data(), layout};
      const std::vector<std::int32_t> ids{3, 0, 4, 1, 2};
      const auto n = static_cast<std::size_t>(n_pages * page_tokens * 2 * 48);
      const std::vector<float> k = normal(n, 1), v = normal(n, 2);
      const SequenceRows all{0, n_pages * page_tokens, 0, ids};
      backend->ops().append({k.data(), v.data(), pages, {&all, 1}});
      const std::vector<std::int32_t> units{7, 0, 19, 12, 3, 18};
      const std::vector<SequenceRows> rows{
          {0, 2, 0, ids}, {2, 2, 62, ids}, {4, 1, 86, {}, units}, {5, 1, 310, ids}};
      const std::vector<float> q = normal(6 * n_heads * 48, 3);
      std::vector<float> mass(6 * stride, 0.0f);
      backend->ops().attention_mass({q.data(), n_heads, 0.15f, pages, rows, mass.data(), stride});
      for (std::size_t r = 0; r < 6; ++r) {
        const double sum = std::accumulate(mass.begin() + static_cast<std::ptrdiff_t>(r * stride),
                                           mass.begin() + static_cast<std::ptrdiff_t>((r + 1) * stride), 0.0);
        CHECK(sum == test::Approx(n_heads).epsilon(1e-5));
      }
      results.push_back(mass);
    }
    const auto result = test::compare(results[1], results[0], stride);
    INFO(result);
    CHECK(result.within(1e-4));
  }
}

}  // namespace
