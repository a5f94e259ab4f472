// The index's ops on the device beside the scalar reference: keys, scores and choices to the bit.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "base/checked.h"
#include "cuda/gpu.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/normal.h"

namespace cga::test {
namespace {

struct Shape {
  std::int32_t n_heads, width;
};
const Shape shapes[] = {{1, 4},   {3, 12},  {5, 24},  {12, 32},  {7, 32},
                        {16, 64}, {12, 64}, {6, 100}, {13, 128}, {200, 128}};

template <class T>
std::unique_ptr<Buffer> upload(Backend& backend, const std::vector<T>& values) {
  auto buffer = backend.allocate(std::max<std::size_t>(values.size() * sizeof(T), 4), "test");
  backend.write(buffer->data(), values.data(), values.size() * sizeof(T));
  return buffer;
}

template <class T>
std::vector<T> download(Backend& backend, const Buffer& buffer, std::size_t n) {
  const auto* first = static_cast<const T*>(backend.read(buffer.data(), n * sizeof(T)));
  return {first, first + n};
}

/// Keys of two sequences on one backend, their pages in turn, in reverse order and between poisoned ones.
class Keys {
 public:
  Keys(Backend& backend, const Shape& shape, std::int32_t n_tokens)
      : backend_(backend), shape_(shape), n_tokens_(n_tokens) {
    const IndexLayout layout{shape.width};
    const std::int32_t n_pages = div_up(n_tokens, page_tokens);
    for (std::int32_t p = 0; p < n_pages; ++p) {
      for (int s = 0; s < 2; ++s) ids_[s].push_back(3 * (n_pages - p) + s);
    }
    bytes_ = static_cast<std::size_t>((3 * n_pages + 3) * layout.page_bytes());
    memory_ = upload(backend, std::vector<std::byte>(bytes_, std::byte{0x7f}));
    k_ = normal(static_cast<std::size_t>(2 * n_tokens * shape.width), 1);
    std::fill_n(k_.begin() + shape.width, shape.width, 0.0f);  // a key of zeros has the scale 1
    std::int32_t done = 0;
    for (const std::int32_t n : {1, 70, n_tokens - 71}) {  // in pieces, of both sequences at once
      add(done, n);
      done += n;
    }
  }

  std::vector<std::byte> bytes() const { return download<std::byte>(backend_, *memory_, bytes_); }

  /// Scores of n_rows queries over units [first, last), rows of both sequences in turn: [n_rows, stride];
  /// what is not written is -7.
  /// @param only  if any: that row alone
  std::vector<float> scores(std::int32_t n_rows, std::int32_t first, std::int32_t last,
                            std::int32_t only = -1) const {
    const std::int32_t n = n_rows * shape_.n_heads, stride = last + 3;
    std::vector<float> weights = normal(static_cast<std::size_t>(n), 6);
    weights[0] = 0;
    const auto q = upload(backend_, normal(static_cast<std::size_t>(n * shape_.width), 5)),
               w = upload(backend_, weights), angle = upload(backend_, angles(n_rows, n_tokens_));
    std::vector<ScoredRow> rows;
    for (std::int32_t r = 0; r < n_rows; ++r) {
      // A row that may choose from fewer units than others.
      if (only < 0 || r == only) rows.push_back({r, first, std::max(first + 1, last - r), ids_[r % 2]});
    }
    const auto n_scores = rows.size() * static_cast<std::size_t>(stride);
    const auto out = upload(backend_, std::vector<float>(n_scores, -7.0f));
    backend_.ops().score_units({.q = q->as<float>(),
                                .weights = w->as<float>(),
                                .cos_sin = angle->as<float>(),
                                .n_heads = shape_.n_heads,
                                .pages = {memory_->data(), {shape_.width}},
                                .rows = rows,
                                .scores = out->as<float>(),
                                .stride = stride});
    return download<float>(backend_, *out, n_scores);
  }

 private:
  /// cos and sin of a quarter of the width, [n, 2, width/4], by the host: the same for both backends.
  std::vector<float> angles(std::int32_t n, std::int32_t first) const {
    std::vector<float> out;
    for (std::int32_t t = 0; t < n; ++t) {
      for (const bool sines : {false, true}) {
        for (std::int32_t i = 0; i < shape_.width / 4; ++i) {
          const double angle = 0.02 * (first + t) / (i + 1);
          out.push_back(static_cast<float>(sines ? std::sin(angle) : std::cos(angle)));
        }
      }
    }
    return out;
  }

  void add(std::int32_t position, std::int32_t n) {
    std::vector<float> k, angle;
    for (int s = 0; s < 2; ++s) {
      const auto first = k_.begin() + std::ptrdiff_t{s * n_tokens_ + position} * shape_.width;
      k.insert(k.end(), first, first + std::ptrdiff_t{n} * shape_.width);
      const std::vector<float> own = angles(n, position);
      angle.insert(angle.end(), own.begin(), own.end());
    }
    const auto keys = upload(backend_, k), turned = upload(backend_, angle);
    const SequenceRows rows[] = {{0, n, position, ids_[0]}, {n, n, position, ids_[1]}};
    backend_.ops().index_keys({.k = keys->as<float>(),
                               .cos_sin = turned->as<float>(),
                               .pages = {memory_->data(), {shape_.width}},
                               .sequences = rows});
    static_cast<void>(backend_.read(keys->data(), 1));  // done before the keys go
  }

  Backend& backend_;
  Shape shape_;
  std::int32_t n_tokens_;
  std::size_t bytes_ = 0;
  std::unique_ptr<Buffer> memory_;
  std::vector<std::int32_t> ids_[2];
  std::vector<float> k_;
};

/// @param chain  rows that follow one another; the first of every other chain follows `before`, if there is
/// any
std::vector<std::int32_t> top(Backend& backend, const std::vector<float>& scores, std::int64_t stride,
                              std::vector<ScoredRow> rows, std::int32_t count, float bonus = 0,
                              const std::vector<std::int32_t>& before = {}, std::size_t chain = 1) {
  const auto there = upload(backend, scores);
  const auto each = static_cast<std::size_t>(count);
  std::vector<std::int32_t> units(rows.size() * each, -1);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (r % chain != 0) {
      rows[r].before = units.data() + (r - 1) * each;
    } else if (!before.empty() && r / chain % 2 == 0) {
      rows[r].before = before.data();
      rows[r].n_before = static_cast<std::int32_t>(before.size());
    }
  }
  backend.ops().top_units({.scores = there->as<float>(),
                           .stride = stride,
                           .rows = rows,
                           .count = count,
                           .bonus = bonus,
                           .units = units.data()});
  return units;
}

}  // namespace

TEST_CASE("keys of the index are the reference's, byte for byte", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const Shape& shape : shapes) {
    INFO("width " << shape.width);
    CHECK(Keys(*cuda, shape, 201).bytes() == Keys(*scalar, shape, 201).bytes());
  }
}

TEST_CASE("scores of units are the reference's, bit for bit, in any company", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const Shape& shape : shapes) {
    const Keys expected(*scalar, shape, 1700), actual(*cuda, shape, 1700);
    for (const auto& [first, last] : {std::pair{0, 1}, {0, 2}, {1, 5}, {1, 33}, {3, 100}, {1, 106}}) {
      INFO(shape.n_heads << " heads of " << shape.width << ", units " << first << " to " << last);
      const std::vector<float> found = actual.scores(3, first, last);
      CHECK(found == expected.scores(3, first, last));
      const std::vector<float> alone = actual.scores(3, first, last, 1);
      CHECK(std::equal(alone.begin(), alone.end(), found.begin() + last + 3));
    }
  }
}

TEST_CASE("scores of a long past are the reference's", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const Shape& shape : {Shape{12, 32}, Shape{12, 64}}) {
    const Keys expected(*scalar, shape, 16400), actual(*cuda, shape, 16400);
    CHECK(actual.scores(2, 1, 1024) == expected.scores(2, 1, 1024));
  }
}

TEST_CASE("the best units are the reference's, in order, ties to the lower unit", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  std::mt19937 random(3);
  constexpr std::int64_t stride = 9100;  // more than are kept in shared memory
  std::vector<float> scores = normal(5 * stride, 7);
  for (std::int64_t i = 0; i < stride; ++i) {
    const auto few = static_cast<float>(random() % 6);
    scores[static_cast<std::size_t>(i)] = few;                                 // most comparisons are ties,
    scores[static_cast<std::size_t>(stride + i)] = i % 3 == 0 ? -0.0f : 0.0f;  // or all are
    scores[static_cast<std::size_t>(2 * stride + i)] = few - 3 + 1e-7f * static_cast<float>(random() % 5);
  }
  scores[3 * stride + 40] = std::numeric_limits<float>::infinity();
  scores[3 * stride + 41] = -std::numeric_limits<float>::infinity();
  scores[3 * stride + 42] = std::numeric_limits<float>::denorm_min();
  for (const std::int32_t n : {1, 2, 16, 31, 33, 1023, 1024, 1025, 8191, 8192, 8193, 9000}) {
    std::vector<ScoredRow> rows;
    for (std::int32_t r = 0; r < 5; ++r) rows.push_back({r, r, r + n, {}});
    for (const std::int32_t count : {1, 2, 17, 64, 128, 512, n - 1, n}) {
      if (count < 1 || count > n) continue;
      INFO(count << " of " << n);
      CHECK(top(*cuda, scores, stride, rows, count) == top(*scalar, scores, stride, rows, count));
    }
  }
}

TEST_CASE("choices hold on to the ones before them as in the reference, also within a call", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  constexpr std::int64_t stride = 9100;
  const std::vector<float> scores = normal(7 * stride, 11);
  for (const std::int32_t n : {40, 1025, 9000}) {
    std::vector<ScoredRow> rows;
    for (std::int32_t r = 0; r < 7; ++r) rows.push_back({r, 1, 1 + n + r, {}});
    const std::int32_t count = 17;
    std::vector<std::int32_t> before;
    for (std::int32_t i = 0; i < count; ++i) before.push_back(1 + i * n / count);
    for (const float bonus : {0.0f, 0.5f, 1.0f, 100.0f}) {
      for (const std::size_t chain : {1, 3, 7}) {
        INFO(n << " units, bonus " << bonus << ", chains of " << chain);
        CHECK(top(*cuda, scores, stride, rows, count, bonus, before, chain) ==
              top(*scalar, scores, stride, rows, count, bonus, before, chain));
      }
    }
  }
}

TEST_CASE("by need, rows have as many units as in the reference, also where they follow one another",
          "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  constexpr std::int64_t stride = 9100;
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const std::vector<float> scores = normal(9 * stride, 13);
  const std::vector<float> need{1,  0.03f,    2.7f,     nan, inf,
                                -1, 0.34375f, 0.40625f, 1.5f};  // two ties at 16 units
  for (const std::int32_t n : {5, 63, 9000}) {
    for (const std::int32_t mean : {1, 16, 128}) {
      const std::int32_t least = div_up(mean, 4), most = 3 * mean;
      if (least > n) continue;
      for (const std::size_t chain : {1, 4}) {
        INFO(n << " units, " << mean << " on the mean, chains of " << chain);
        const auto choose = [&](Backend& backend) {
          std::vector<std::int32_t> units(need.size() * static_cast<std::size_t>(most), -1),
              counts(need.size());
          std::vector<ScoredRow> rows;
          for (std::size_t r = 0; r < need.size(); ++r) {
            rows.push_back({static_cast<std::int32_t>(r), 1, 1 + n, {}});
            if (r % chain != 0) rows[r].before = units.data() + (r - 1) * static_cast<std::size_t>(most);
          }
          const auto there = upload(backend, scores), wants = upload(backend, need);
          backend.ops().top_units({.scores = there->as<float>(),
                                   .stride = stride,
                                   .rows = rows,
                                   .count = most,
                                   .bonus = 0.5f,
                                   .need = wants->as<float>(),
                                   .mean = mean,
                                   .least = least,
                                   .units = units.data(),
                                   .counts = counts.data()});
          std::vector<std::vector<std::int32_t>> chosen;
          for (std::size_t r = 0; r < need.size(); ++r) {
            const auto first = units.begin() + static_cast<std::ptrdiff_t>(r) * most;
            chosen.emplace_back(first, first + counts[r]);
          }
          return chosen;
        };
        CHECK(choose(*cuda) == choose(*scalar));
      }
    }
  }
}

TEST_CASE("choices come back from steps that are recorded, also after more rows chose at once", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  constexpr std::int64_t stride = 600;
  constexpr std::int32_t count = 17, most_rows = 100;
  const std::vector<float> scores = normal(most_rows * stride, 12);
  const auto on_scalar = upload(*scalar, scores), on_cuda = upload(*cuda, scores);
  const auto choose = [&](Backend& backend, const Buffer& from, std::int32_t n_rows) {
    std::vector<ScoredRow> rows;
    for (std::int32_t r = 0; r < n_rows; ++r) rows.push_back({r, 1, 500 + r, {}});
    std::vector<std::int32_t> units(static_cast<std::size_t>(n_rows * count), -1);
    backend.ops().top_units(
        {.scores = from.as<float>(), .stride = stride, .rows = rows, .count = count, .units = units.data()});
    return units;
  };
  // Where choices arrive grows with the rows, while steps of fewer rows are still known.
  for (const std::int32_t n_rows : {1, 1, 1, 2, 2, 3, 1, 2, 1, most_rows, most_rows, most_rows, 1, 3}) {
    INFO(n_rows << " rows");
    const StepShape shape{.kind = StepShape::Kind::decode,
                          .host_decides = true,
                          .n_tokens = n_rows,
                          .n_sequences = n_rows,
                          .max_position = 9000};
    std::vector<std::int32_t> found;
    cuda->run_step(shape, [&] { found = choose(*cuda, *on_cuda, n_rows); });
    CHECK(found == choose(*scalar, *on_scalar, n_rows));
  }
}

}  // namespace cga::test
