// How the CUDA backend cuts attention: pure functions, tested without a GPU.
#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <set>

#include "kernels/cuda/attention/plan.h"
#include "support/catch.h"

using namespace cga;
using namespace cga::cuda;

namespace {
constexpr std::int32_t tile_counts[] = {1, 2, 3, 5, 8, 9, 32, 128, 1000};
constexpr std::int32_t caps[] = {32, 33, 48, 64, 100, 170, 256};  // long_splits
}  // namespace

TEST_CASE("splits cover a sequence of any length and stay few enough for two levels of merging",
          "[attention][plan]") {
  for (const std::int32_t cap : caps) {
    for (std::int32_t length = 1; length < 3'000'000; length += 1 + length / 50) {
      const std::int32_t tokens = split_tokens(length, cap), splits = n_splits(length, cap);
      REQUIRE(tokens % page_tokens == 0);
      REQUIRE(std::int64_t{splits} * tokens >= length);
      REQUIRE(std::int64_t{splits - 1} * tokens < length);
      REQUIRE(splits <= most_splits);
      if (length <= 16384) REQUIRE(splits <= most_merged);
    }
  }
}

TEST_CASE("the grid's bound holds for every shorter sequence, too, and is met by one of them",
          "[attention][plan]") {
  for (const std::int32_t cap : caps) {
    std::int32_t most = 0, low = 0, high = 0;
    for (std::int32_t length = 1; length <= 300'000; ++length) {
      most = std::max(most, n_splits(length, cap));
      if (max_splits(length, cap) < most) low = length;
      if (max_splits(length, cap) > most) high = length;
    }
    INFO("at most " << cap);
    CHECK(low == 0);
    CHECK(high == 0);
  }
}

TEST_CASE("fewer tiles of heads never ask for less workspace", "[attention][plan]") {
  for (const std::int32_t length : {1, 600, 5000, 20'000, 131'072, 1'000'000}) {
    std::int32_t before = most_splits;
    for (const std::int32_t tiles : tile_counts) {
      const std::int32_t splits = max_splits(length, long_splits(tiles, most_ctas));
      CHECK(splits <= before);
      CHECK(max_splits(length, long_splits(tiles, 3)) <= splits);
      before = splits;
    }
  }
  CHECK(decode_tiles(8, 4) == 8);
  CHECK(decode_tiles(1, 12) == 2);
}

TEST_CASE("more tokens never ask for less workspace", "[attention][plan]") {
  for (const std::int32_t cap : caps) {
    std::int64_t before = 0;
    for (std::int32_t length = 1; length < 300'000; length += 1 + length / 100) {
      const std::int64_t bytes = DecodeWorkspace(32, 128, 4, max_splits(length, cap)).bytes();
      REQUIRE(bytes >= before);
      before = bytes;
    }
  }
}

TEST_CASE("counters stay where they are, whatever is launched", "[attention][plan]") {
  const DecodeWorkspace plan(32, 128, 4, 40), fewer(32, 128, 1, 16);
  CHECK(fewer.bytes() < plan.bytes());
  CHECK(plan.counter(3, 7) == fewer.counter(3, 7));
  CHECK(plan.state_offset() == fewer.state_offset());
}

TEST_CASE("states of sequences, slots and heads have places of their own", "[attention][plan]") {
  const DecodeWorkspace plan(6, 64, 3, 40);
  REQUIRE(plan.n_slots == 40 + merge_group);
  REQUIRE(DecodeWorkspace(6, 64, 3, 32).n_slots == 32);  // merged at once
  std::set<std::int64_t> vectors, counters;
  for (std::int32_t sequence = 0; sequence < 3; ++sequence) {
    for (std::int32_t head = 0; head < 6; ++head) {
      for (std::int32_t slot = 0; slot < plan.n_slots; ++slot) {
        vectors.insert(plan.vector(sequence, slot, head));
      }
      for (std::int32_t i = 0; i < DecodeWorkspace::counters; ++i) {
        counters.insert(plan.counter(sequence, head) + i);
      }
    }
  }
  CHECK(vectors.size() == std::size_t(3 * 6 * plan.n_slots));
  CHECK(counters.size() == std::size_t(3 * 6 * DecodeWorkspace::counters));
  CHECK(plan.sum_offset() + (*vectors.rbegin() + 1) * 64 * 4 == plan.bytes());
  CHECK((*counters.rbegin() + 1) * 4 <= plan.state_offset());
}

TEST_CASE("a prompt's tiles hold all tokens and fit the grid", "[attention][plan]") {
  for (const std::int32_t group : {1, 2, 3, 4, 6, 7, 8, 16, most_group}) {
    for (const std::int32_t rows : {64, 128}) {
      const std::int32_t tokens = rows / group;
      REQUIRE(tokens >= 1);
      for (const std::int32_t n_tokens : {1, 2, 17, 128, 129, 5000}) {
        CHECK(n_tiles(n_tokens, tokens) * tokens >= n_tokens);
        CHECK((n_tiles(n_tokens, tokens) - 1) * tokens < n_tokens);
        CHECK(3 * n_tiles(n_tokens, tokens) <= max_tiles(3 * n_tokens, 3, tokens));
      }
      CHECK(n_tiles(0, tokens) == 0);
    }
  }
  CHECK(small_tiles(512, 1, 3, 3));
  CHECK_FALSE(small_tiles(2048, 1, 8, 4));
}

TEST_CASE("tensor cores serve bf16 and blocks of two head sizes", "[attention][plan]") {
  CHECK(has_tensor_path({2, 64, KvElement::bf16}));
  CHECK(has_tensor_path({2, 128, KvElement::q4}));
  CHECK_FALSE(has_tensor_path({2, 128, KvElement::f32}));
  CHECK_FALSE(has_tensor_path({2, 96, KvElement::q8}));
}
