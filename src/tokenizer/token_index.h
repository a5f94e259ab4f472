// From a token's text to its id: a flat hash table over strings that lie elsewhere.
#pragma once

#include <bit>
#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "cga/tokenizer.h"

namespace cga {

class TokenIndex {
 public:
  explicit TokenIndex(std::size_t n_tokens) : slots_(std::bit_ceil(n_tokens * 3 / 2 + 2)) {}

  /// The text must outlive the index. A text that is added again keeps its first id.
  void add(std::string_view text, TokenId id) {
    Slot& slot = slots_[find_slot(text)];
    if (slot.id < 0) slot = Slot{text, id};
  }

  /// @return -1 if there is no such token
  TokenId find(std::string_view text) const { return slots_[find_slot(text)].id; }

 private:
  struct Slot {
    std::string_view text;
    TokenId id = -1;
  };

  std::size_t find_slot(std::string_view text) const {
    const std::size_t mask = slots_.size() - 1;
    std::size_t i = std::hash<std::string_view>()(text) & mask;
    while (slots_[i].id >= 0 && slots_[i].text != text) i = (i + 1) & mask;
    return i;
  }

  std::vector<Slot> slots_;  // open addressing, a power of two
};

}  // namespace cga
