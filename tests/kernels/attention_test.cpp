// append and attend of the CPU backend against the scalar oracle, through Ops, on shapes chosen to be nasty;
// and what the oracle cannot show: that threads, neighbours and the way a prompt is cut leave no trace in the
// result.
#include <algorithm>
#include <cmath>
#include <cstdint>
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
using cga::test::compare;
using cga::test::Comparison;

namespace {

constexpr double tolerance = 2e-5;  // as ops.h promises

struct Heads {
  std::int32_t n_kv_heads, group, head_dim;
  KvElement element = KvElement::bf16;
  std::int32_t n_heads() const { return n_kv_heads * group; }
};

struct Span {  // what one sequence adds to a batch
  std::int32_t position, n_tokens;
};

using test::normal;

/// A few sequences' whole keys, values and queries, indexed by position; any backend can be given any part of
/// them.
class Story {
 public:
  Story(Heads heads, std::size_t n_sequences, std::int32_t length, float query_deviation = 1.0f)
      : heads_(heads), n_sequences_(n_sequences), length_(length) {
    for (std::size_t s = 0; s < n_sequences; ++s) {
      const auto seed = static_cast<std::uint32_t>(10 * s);
      const auto n_kv = static_cast<std::size_t>(length * heads.n_kv_heads * heads.head_dim);
      k.push_back(normal(n_kv, seed));
      v.push_back(normal(n_kv, seed + 1));
      q.push_back(normal(n_kv * static_cast<std::size_t>(heads.group), seed + 2, query_deviation));
    }
  }

  std::vector<std::vector<float>> k, v, q;  // a sequence: [length, heads, head_dim]
  const Heads& heads() const { return heads_; }
  std::size_t n_sequences() const { return n_sequences_; }
  std::int32_t length() const { return length_; }

 private:
  Heads heads_;
  std::size_t n_sequences_;
  std::int32_t length_;
};

/// The pages of one layer on one backend, ids scattered over all sequences, full of garbage before anything
/// is put.
class Cache {
 public:
  Cache(Backend& backend, const Story& story, std::uint16_t garbage = 0xffc0 /* NaN in bf16, and in f32 */)
      : backend_(backend), story_(story) {
    layout_ = {story.heads().n_kv_heads, story.heads().head_dim, story.heads().element};
    const auto a_sequence = static_cast<std::size_t>(div_up(story.length(), page_tokens));
    std::vector<std::int32_t> ids(a_sequence * story.n_sequences());
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(5));
    for (std::size_t s = 0; s < story.n_sequences(); ++s) {
      const auto first = ids.begin() + static_cast<std::ptrdiff_t>(s * a_sequence);
      pages_.emplace_back(first, first + static_cast<std::ptrdiff_t>(a_sequence));
    }
    memory_ = backend.allocate(ids.size() * static_cast<std::size_t>(layout_.page_bytes()), "test pages");
    for (std::size_t i = 0; i < memory_->size(); i += 2) std::memcpy(memory_->data() + i, &garbage, 2);
  }

  /// Sequence s of the story adds spans[s]; spans of no tokens are left out of the batch.
  std::vector<float> run(const std::vector<Span>& spans) {
    const Heads& heads = story_.heads();
    const auto kv_row = static_cast<std::size_t>(heads.n_kv_heads * heads.head_dim);
    const std::size_t q_row = kv_row * static_cast<std::size_t>(heads.group);
    std::vector<float> k, v, q;
    std::vector<SequenceRows> rows;
    std::int32_t n_rows = 0;
    const auto take = [](std::vector<float>& to, const std::vector<float>& from, Span span, std::size_t row) {
      const auto begin =
          from.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(span.position) * row);
      to.insert(to.end(), begin,
                begin + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(span.n_tokens) * row));
    };
    for (std::size_t s = 0; s < spans.size(); ++s) {
      if (spans[s].n_tokens == 0) continue;
      take(k, story_.k[s], spans[s], kv_row);
      take(v, story_.v[s], spans[s], kv_row);
      take(q, story_.q[s], spans[s], q_row);
      rows.push_back({n_rows, spans[s].n_tokens, spans[s].position, pages_[s]});
      n_rows += spans[s].n_tokens;
    }
    const LayerPages layer{memory_->data(), layout_};
    backend_.ops().append({k.data(), v.data(), layer, rows});
    std::vector<float> out(q.size(), 77.0f);
    const float scale = 1.0f / std::sqrt(static_cast<float>(heads.head_dim));
    backend_.ops().attend({q.data(), out.data(), heads.n_heads(), scale, layer, rows});
    return out;
  }

  /// Puts the tokens before each span where they belong, then runs the spans.
  std::vector<float> run_after_history(const std::vector<Span>& spans) {
    std::vector<Span> history;
    for (const Span& span : spans) history.push_back({0, span.position});
    run_append_only(history);
    return run(spans);
  }

 private:
  void run_append_only(const std::vector<Span>& spans) {
    for (std::size_t s = 0; s < spans.size(); ++s) {
      const std::vector<SequenceRows> rows = {{0, spans[s].n_tokens, 0, pages_[s]}};
      backend_.ops().append({story_.k[s].data(), story_.v[s].data(), {memory_->data(), layout_}, rows});
    }
  }

  Backend& backend_;
  const Story& story_;
  KvLayout layout_;
  std::vector<std::vector<std::int32_t>> pages_;
  std::unique_ptr<Buffer> memory_;
};

Comparison against_oracle(const Story& story, const std::vector<Span>& spans, int n_threads = 2) {
  const auto cpu = make_backend("cpu", n_threads), scalar = make_backend("scalar", 1);
  const std::vector<float> actual = Cache(*cpu, story).run_after_history(spans);
  const std::vector<float> expected = Cache(*scalar, story).run_after_history(spans);
  return compare(actual, expected, static_cast<std::size_t>(story.heads().head_dim));
}

}  // namespace

TEST_CASE("one token at every awkward depth agrees with the oracle", "[attention]") {
  for (const KvElement element : {KvElement::bf16, KvElement::f32}) {
    const Story story({2, 3, 64, element}, 1, 1001);
    for (const int position :
         {0, 1, 14, 15, 16, 17, 31, 32, 61, 63, 64, 65, 69, 127, 128, 129, 255, 256, 257, 1000}) {
      const auto result = against_oracle(story, {{position, 1}});
      INFO("position " << position << ": " << result);
      CHECK(result.within(tolerance));
    }
  }
}

TEST_CASE("every head size and group size agrees with the oracle", "[attention]") {
  for (const KvElement element : {KvElement::bf16, KvElement::f32}) {
    for (const int head_dim : {16, 48, 64, 80, 96, 128, 256}) {
      for (const int group : {1, 2, 3, 4, 5, 6, 7, 8, 9, 16}) {
        const Story story({2, group, head_dim, element}, 1, 100);
        for (const Span span : {Span{70, 1}, Span{60, 13}}) {
          const auto result = against_oracle(story, {span});
          INFO("head_dim " << head_dim << ", group " << group << ", " << span.n_tokens
                           << " tokens: " << result);
          CHECK(result.within(tolerance));
        }
      }
    }
  }
}

TEST_CASE("prompts of awkward lengths agree with the oracle", "[attention]") {
  const Story story({1, 3, 64}, 1, 420);
  for (const int length : {1, 15, 16, 17, 61, 64, 65, 129, 400}) {
    const auto result = against_oracle(story, {{0, length}});
    INFO("prompt of " << length << ": " << result);
    CHECK(result.within(tolerance));
  }
  const auto later = against_oracle(story, {{301, 119}});
  INFO(later);
  CHECK(later.within(tolerance));
}

TEST_CASE("sequences of mixed lengths in one batch agree with the oracle", "[attention]") {
  for (const int n_threads : {1, 2, 3}) {
    const Story story({2, 3, 80}, 5, 700);
    const auto result = against_oracle(story, {{0, 1}, {600, 1}, {63, 70}, {0, 17}, {640, 2}}, n_threads);
    INFO(result);
    CHECK(result.within(tolerance));
  }
}

TEST_CASE("huge scores neither overflow nor lose the largest", "[attention]") {
  const Story story({1, 2, 64, KvElement::f32}, 1, 300, 4000.0f);  // scores up to about 2e4
  const auto result = against_oracle(story, {{290, 10}});
  INFO(result);
  // Two scores near 1e4 differ by less than f32 resolves; weights are then off by that much.
  CHECK(result.within(5e-2));
  CHECK(result.special_mismatches == 0);

  Story equal({1, 2, 64, KvElement::f32}, 1, 300);
  for (float& k : equal.k[0]) k = 100.0f;
  for (float& q : equal.q[0]) q = 12.5f;  // every score is 1e4: the result is the mean of the values
  CHECK(against_oracle(equal, {{299, 1}}).within(tolerance));
  for (float& q : equal.q[0]) q = -12.5f;
  CHECK(against_oracle(equal, {{299, 1}}).within(tolerance));
}

TEST_CASE("what lies beyond a sequence's end never shows", "[attention]") {
  constexpr std::uint16_t garbages[] = {0xffc0, 0x7f80, 0xff80, 0x7f7f};  // NaN, inf, -inf, 3e38
  const auto cpu = make_backend("cpu", 2);
  for (const KvElement element : {KvElement::bf16, KvElement::f32}) {
    const Story story({2, 3, 80, element}, 1, 200);
    for (const std::vector<Span>& spans : {std::vector<Span>{{40, 1}}, {{64, 1}}, {{0, 33}}, {{100, 37}}}) {
      const std::vector<float> clean = Cache(*cpu, story, 0x0000).run_after_history(spans);
      for (const std::uint16_t garbage : garbages) {
        CHECK(Cache(*cpu, story, garbage).run_after_history(spans) == clean);
      }
    }
  }
}

TEST_CASE("a token that is not a number spoils no earlier one", "[attention]") {
  const auto cpu = make_backend("cpu", 2), scalar = make_backend("scalar", 1);
  Story story({1, 3, 64}, 1, 64);
  for (int i = 0; i < 64; ++i) {
    story.k[0][10 * 64 + static_cast<std::size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
    story.v[0][10 * 64 + static_cast<std::size_t>(i)] = std::numeric_limits<float>::quiet_NaN();
  }
  const std::vector<float> actual = Cache(*cpu, story).run({{0, 20}});
  const auto result = compare(actual, Cache(*scalar, story).run({{0, 20}}), 64);
  INFO(result);
  CHECK(result.within(tolerance));
  CHECK(std::isfinite(actual[10 * 3 * 64 - 1]));
  CHECK(std::isnan(actual[10 * 3 * 64]));
}

TEST_CASE("threads leave no trace in the result", "[attention]") {
  for (const KvElement element : {KvElement::bf16, KvElement::f32}) {
    const Story story({3, 3, 64, element}, 2, 1400);
    for (const std::vector<Span>& spans :
         {std::vector<Span>{{1300, 1}}, {{1300, 1}, {70, 1}}, {{300, 40}, {0, 200}}}) {
      const auto one = make_backend("cpu", 1);
      const std::vector<float> expected = Cache(*one, story).run_after_history(spans);
      for (const int n_threads : {2, 3, 7}) {
        const auto many = make_backend("cpu", n_threads);
        CHECK(Cache(*many, story).run_after_history(spans) == expected);
      }
    }
  }
}

TEST_CASE("neighbours in the batch leave no trace in the result", "[attention]") {
  const auto cpu = make_backend("cpu", 2);
  const Story story({2, 7, 64}, 3, 700);
  const std::vector<Span> spans = {{513, 1}, {20, 60}, {650, 3}};
  const std::vector<float> together = Cache(*cpu, story).run_after_history(spans);
  std::vector<float> apart;
  for (std::size_t s = 0; s < spans.size(); ++s) {
    std::vector<Span> alone(spans.size(), {0, 0});
    alone[s] = spans[s];
    const std::vector<float> out = Cache(*cpu, story).run_after_history(alone);
    apart.insert(apart.end(), out.begin(), out.end());
  }
  CHECK(together == apart);
}

TEST_CASE("a prompt gives the same whole, in parts and token by token", "[attention]") {
  const auto cpu = make_backend("cpu", 2);
  for (const int group : {1, 3, 8}) {
    const Story story({2, group, 64}, 1, 600);
    Cache whole(*cpu, story), parts(*cpu, story), single(*cpu, story);
    const std::vector<float> expected = whole.run({{0, 600}});
    std::vector<float> in_parts, by_token;
    for (const Span span : {Span{0, 100}, {100, 1}, {101, 250}, {351, 249}}) {
      const std::vector<float> out = parts.run({span});
      in_parts.insert(in_parts.end(), out.begin(), out.end());
    }
    for (int position = 0; position < 600; ++position) {
      const std::vector<float> out = single.run({{position, 1}});
      by_token.insert(by_token.end(), out.begin(), out.end());
    }
    CHECK(in_parts == expected);
    CHECK(by_token == expected);
  }
}

TEST_CASE("one wrong value among thousands is noticed", "[attention]") {
  const auto cpu = make_backend("cpu", 2), scalar = make_backend("scalar", 1);
  const Story story({1, 3, 64}, 1, 500);
  Story damaged = story;
  damaged.v[0][123 * 64 + 5] += 1.0f;
  const std::vector<float> actual = Cache(*cpu, damaged).run_after_history({{499, 1}});
  CHECK_FALSE(compare(actual, Cache(*scalar, story).run_after_history({{499, 1}}), 64).within(tolerance));
}
