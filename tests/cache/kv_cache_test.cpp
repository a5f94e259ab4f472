// Pages and sequences: who holds what, and that nothing is held twice or lost.
#include "cache/kv_cache.h"

#include <set>

#include "support/catch.h"

namespace cga {
namespace {

KvLayout small_layout() {
  return {.n_kv_heads = 1, .head_dim = 16, .element = KvElement::bf16};
}

TEST_CASE("A pool hands out each page once, the lowest free one first") {
  PagePool pool(4);
  CHECK(pool.take() == 0);
  CHECK(pool.take() == 1);
  CHECK(pool.take() == 2);
  pool.give_back(1);
  pool.give_back(0);
  CHECK(pool.n_free() == 3);
  CHECK(pool.take() == 0);
  CHECK(pool.take() == 1);
  CHECK(pool.take() == 3);
  CHECK(pool.n_free() == 0);
}

TEST_CASE("A sequence takes a page for every 64 tokens, and only then") {
  const auto backend = make_backend("scalar", 1);
  KvCache cache(*backend, small_layout(), 2, 8);
  SequencePages sequence;
  CHECK(KvCache::pages_needed(sequence, 0) == 0);
  CHECK(KvCache::pages_needed(sequence, 1) == 1);
  CHECK(KvCache::pages_needed(sequence, 64) == 1);
  CHECK(KvCache::pages_needed(sequence, 65) == 2);
  cache.grow(sequence, 63);
  CHECK(KvCache::pages_needed(sequence, 1) == 0);
  CHECK(KvCache::pages_needed(sequence, 2) == 1);
  cache.grow(sequence, 2);
  CHECK(sequence.n_tokens() == 65);
  CHECK(sequence.pages().size() == 2);
  CHECK(cache.n_free_pages() == 6);
}

TEST_CASE("Truncating frees the pages that held only forgotten tokens") {
  const auto backend = make_backend("scalar", 1);
  KvCache cache(*backend, small_layout(), 2, 8);
  SequencePages sequence;
  cache.grow(sequence, 200);
  CHECK(cache.n_free_pages() == 4);
  cache.truncate(sequence, 128);
  CHECK(sequence.pages().size() == 2);
  cache.truncate(sequence, 1);
  CHECK(sequence.pages().size() == 1);
  cache.truncate(sequence, 0);
  CHECK(sequence.pages().empty());
  CHECK(cache.n_free_pages() == 8);
}

TEST_CASE("Sequences that grow in turns never share a page") {
  const auto backend = make_backend("scalar", 1);
  KvCache cache(*backend, small_layout(), 1, 12);
  SequencePages a, b;
  for (int i = 0; i < 5; ++i) {
    cache.grow(a, 50);
    cache.grow(b, 70);
  }
  std::set<std::int32_t> pages(a.pages().begin(), a.pages().end());
  pages.insert(b.pages().begin(), b.pages().end());
  CHECK(pages.size() == a.pages().size() + b.pages().size());
  CHECK(pages.size() == 4 + 6);
}

TEST_CASE("Layers have pages of their own, one layout apart") {
  const auto backend = make_backend("scalar", 1);
  const KvCache cache(*backend, small_layout(), 3, 5);
  const std::int64_t layer_bytes = small_layout().page_bytes() * 5;
  CHECK(small_layout().page_bytes() == 2 * 64 * 1 * 16 * 2);
  CHECK(cache.layer(1).base - cache.layer(0).base == layer_bytes);
  CHECK(cache.layer(2).base - cache.layer(1).base == layer_bytes);
}

}  // namespace
}  // namespace cga
