// Text for the tiny models, whose output is noise anyway.
#pragma once

#include <algorithm>
#include <random>
#include <vector>

#include "cga/tokenizer.h"

namespace cga::test {

/// The same seed gives the same tokens. Their ids are in the vocabulary of every tiny model.
inline std::vector<TokenId> random_text(std::size_t n, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<TokenId> any(0, 255);
  std::vector<TokenId> tokens(n);
  std::generate(tokens.begin(), tokens.end(), [&] { return any(random); });
  return tokens;
}

}  // namespace cga::test
