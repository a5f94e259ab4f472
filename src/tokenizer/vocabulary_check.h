// A vocabulary comes from a file: here it is checked, and its merges, which are strings, become pairs of ids.
#pragma once

#include <array>

#include "tokenizer/byte_pairs.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/token_index.h"
#include "tokenizer/vocabulary.h"

namespace cga {

/// Checks names, sizes and ids. @return the pre-tokenizer @throws Error (bad_file)
const PreTokenizer& check_vocabulary(const Vocabulary& vocabulary);

/// The ids of all tokens by their text as the file writes it.
TokenIndex index_tokens(const Vocabulary& vocabulary);

/// The token of each single byte, -1 where there is none. Vocabularies may leave out bytes that their texts
/// never held. @throws Error (bad_file) if a printable ASCII character has no token
std::array<TokenId, 256> find_byte_tokens(const Vocabulary& vocabulary, const TokenIndex& index);

/// @throws Error (bad_file) for a merge of or into something that is no token
void add_merges(const Vocabulary& vocabulary, const TokenIndex& index, BytePairs& pairs);

}  // namespace cga
