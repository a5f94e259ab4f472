// Tokens that are found in a text as they are written, before anything else is done to it.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cga/tokenizer.h"

namespace cga {

class SpecialTokens {
 public:
  struct Match {
    std::size_t begin, length;
    TokenId id;
  };

  /// @param control  found only where control tokens are asked for; else always
  void add(std::string_view text, TokenId id, bool control);

  /// The leftmost match at or after `from`, the longest there.
  std::optional<Match> find(std::string_view text, std::size_t from, bool with_control) const;

 private:
  struct Entry {
    std::string text;
    TokenId id;
    bool control;
  };

  std::array<std::vector<Entry>, 256> by_first_byte_;  // longest first
  std::string first_bytes_;
};

}  // namespace cga
