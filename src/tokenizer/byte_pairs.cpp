#include "tokenizer/byte_pairs.h"

#include <algorithm>
#include <bit>
#include <queue>
#include <tuple>

namespace cga {
namespace {

constexpr std::size_t short_word = 48;  // below this, scanning all ranks beats a heap
constexpr std::uint64_t empty_slot = ~std::uint64_t{0};

std::uint64_t pair_key(TokenId left, TokenId right) {
  return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 | static_cast<std::uint32_t>(right);
}

std::size_t hash(std::uint64_t pair, int shift) {
  return static_cast<std::size_t>((pair * 0x9e3779b97f4a7c15u ^ pair >> 29) * 0xbf58476d1ce4e5b9u >> shift);
}

}  // namespace

BytePairs::BytePairs(std::size_t n_merges)
    : slots_(std::bit_ceil(n_merges * 3 / 2 + 2), Slot{empty_slot, {no_merge, -1}}),
      shift_(64 - std::countr_zero(slots_.size())) {}

BytePairs::Slot& BytePairs::find_slot(std::uint64_t pair) {
  std::size_t i = hash(pair, shift_);
  while (slots_[i].pair != pair && slots_[i].pair != empty_slot) i = (i + 1) & (slots_.size() - 1);
  return slots_[i];
}

void BytePairs::add(TokenId left, TokenId right, Merge merge) {
  const std::uint64_t pair = pair_key(left, right);
  find_slot(pair) = Slot{pair, merge};
}

BytePairs::Merge BytePairs::find(TokenId left, TokenId right) const {
  return const_cast<BytePairs*>(this)->find_slot(pair_key(left, right)).merge;
}

std::size_t BytePairs::merge(TokenId* word, std::size_t n) const {
  if (n < 2) return n;
  return n <= short_word ? merge_short(word, n) : merge_long(word, n);
}

std::size_t BytePairs::merge_short(TokenId* word, std::size_t n) const {
  Merge merges[short_word];  // [n - 1], of word[i] with word[i + 1]
  for (std::size_t i = 0; i + 1 < n; ++i) merges[i] = find(word[i], word[i + 1]);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i) {
      if (merges[i].rank < merges[best].rank) best = i;
    }
    if (merges[best].rank == no_merge) break;
    word[best] = merges[best].product;
    std::copy(word + best + 2, word + n, word + best + 1);
    std::copy(merges + best + 1, merges + n - 1, merges + best);
    --n;
    if (best > 0) merges[best - 1] = find(word[best - 1], word[best]);
    if (best + 1 < n) merges[best] = find(word[best], word[best + 1]);
  }
  return n;
}

std::size_t BytePairs::merge_long(TokenId* word, std::size_t n) const {
  // Tokens stay where their first byte was, linked to their neighbours; a token that was swallowed is -1.
  // A candidate whose pair has changed since it was queued is skipped when it comes up.
  constexpr TokenId swallowed = -1;
  struct Candidate {
    std::uint32_t rank;
    std::size_t at;
    TokenId left, right, product;
    bool operator<(const Candidate& o) const { return std::tie(o.rank, o.at) < std::tie(rank, at); }
  };
  std::vector<std::size_t> next(n), previous(n);
  for (std::size_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;  // of the first: wraps, and is never used
  }
  std::vector<Candidate> heap;
  const auto candidate = [&](std::size_t at) {
    const TokenId left = word[at], right = word[next[at]];
    const Merge merge = find(left, right);
    return Candidate{merge.rank, at, left, right, merge.product};
  };
  for (std::size_t i = 0; i + 1 < n; ++i) {
    if (const Candidate c = candidate(i); c.rank != no_merge) heap.push_back(c);
  }
  std::priority_queue<Candidate> queue(std::less<Candidate>(), std::move(heap));
  const auto enqueue = [&](std::size_t at) {
    if (const Candidate c = candidate(at); c.rank != no_merge) queue.push(c);
  };
  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    const std::size_t right = next[best.at];
    if (right == n || word[best.at] != best.left || word[right] != best.right) continue;
    word[best.at] = best.product;
    word[right] = swallowed;
    next[best.at] = next[right];
    if (next[right] != n) previous[next[right]] = best.at;
    if (best.at > 0) enqueue(previous[best.at]);
    if (next[best.at] != n) enqueue(best.at);
  }
  return static_cast<std::size_t>(std::remove(word, word + n, swallowed) - word);
}

}  // namespace cga
