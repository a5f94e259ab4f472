// Byte-pair encoding proper: a word's bytes become tokens by merging neighbours, best-ranked pair first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "cga/tokenizer.h"

namespace cga {

class BytePairs {
 public:
  struct Merge {
    std::uint32_t rank;  // lower is merged first
    TokenId product;
  };

  /// @param n_merges  how many merges will be added at most
  explicit BytePairs(std::size_t n_merges);

  /// A pair that is added again keeps its latest rank, as in the package `tokenizers`.
  void add(TokenId left, TokenId right, Merge merge);

  /// Merges the tokens word[0, n) in place, n log n in time. @return the number of tokens that remain
  std::size_t merge(TokenId* word, std::size_t n) const;

 private:
  static constexpr std::uint32_t no_merge = 0xffffffffu;

  struct Slot {
    std::uint64_t pair;
    Merge merge;
  };

  Slot& find_slot(std::uint64_t pair);
  Merge find(TokenId left, TokenId right) const;
  std::size_t merge_short(TokenId* word, std::size_t n) const;
  std::size_t merge_long(TokenId* word, std::size_t n) const;

  std::vector<Slot> slots_;  // open addressing, a power of two
  int shift_;                // a hash's top bits choose the slot
};

}  // namespace cga
