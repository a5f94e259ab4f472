#include "tokenizer/vocabulary_check.h"

#include <limits>
#include <string>

#include "cga/error.h"
#include "tokenizer/byte_alphabet.h"

namespace cga {
namespace {

[[noreturn]] void refuse(
    const Vocabulary& vocabulary, std::string_view key, const std::string& problem,
    std::string_view remedy = "the file is damaged or foreign: fetch or convert it again") {
  throw Error(ErrorKind::bad_file, vocabulary.origin + ": tokenizer.ggml." + std::string(key), problem,
              remedy);
}

std::string quoted(std::string_view text) {
  return "'" + std::string(text) + "'";
}

void check_id(const Vocabulary& vocabulary, std::string_view key, TokenId id) {
  const auto n = static_cast<TokenId>(vocabulary.tokens.size());
  if (id >= -1 && id < n) return;
  refuse(vocabulary, key, "found " + std::to_string(id) + ", expected a token below " + std::to_string(n));
}

}  // namespace

const PreTokenizer& check_vocabulary(const Vocabulary& vocabulary) {
  constexpr std::string_view unsupported = "this tokenizer is not supported: use a model with one of these";
  if (vocabulary.model != "gpt2") {
    refuse(vocabulary, "model", "found " + quoted(vocabulary.model) + ", expected gpt2 (byte-level BPE)",
           unsupported);
  }
  const PreTokenizer* pre_tokenizer = find_pre_tokenizer(vocabulary.pre_tokenizer);
  if (pre_tokenizer == nullptr) {
    refuse(vocabulary, "pre",
           "found " + quoted(vocabulary.pre_tokenizer) + ", expected one of " + pre_tokenizer_names(),
           unsupported);
  }
  const std::size_t n = vocabulary.tokens.size();
  if (n == 0) refuse(vocabulary, "tokens", "the vocabulary is empty");
  if (n > static_cast<std::size_t>(std::numeric_limits<TokenId>::max())) {
    refuse(vocabulary, "tokens", "found " + std::to_string(n) + " tokens, more than an id can number");
  }
  if (!vocabulary.kinds.empty() && vocabulary.kinds.size() != n) {
    refuse(vocabulary, "token_type",
           "found " + std::to_string(vocabulary.kinds.size()) + " types, expected one for each of " +
               std::to_string(n) + " tokens");
  }
  check_id(vocabulary, "bos_token_id", vocabulary.bos);
  check_id(vocabulary, "eos_token_id", vocabulary.eos);
  check_id(vocabulary, "eot_token_id", vocabulary.eot);
  if (vocabulary.add_bos && vocabulary.bos < 0) {
    refuse(vocabulary, "bos_token_id", "missing, but tokenizer.ggml.add_bos_token asks for it");
  }
  return *pre_tokenizer;
}

TokenIndex index_tokens(const Vocabulary& vocabulary) {
  TokenIndex index(vocabulary.tokens.size());
  for (std::size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    index.add(vocabulary.tokens[i], static_cast<TokenId>(i));
  }
  return index;
}

std::array<TokenId, 256> find_byte_tokens(const Vocabulary& vocabulary, const TokenIndex& index) {
  const ByteAlphabet alphabet;
  std::array<TokenId, 256> ids{};
  for (unsigned byte = 0; byte < ids.size(); ++byte) {
    const std::string_view character = alphabet.character(static_cast<std::uint8_t>(byte));
    ids[byte] = index.find(character);
    if (ids[byte] < 0 && byte >= 0x20 && byte < 0x7f) {
      refuse(vocabulary, "tokens",
             "no token for byte " + std::to_string(byte) + ", expected " + quoted(character) + " among them");
    }
  }
  return ids;
}

void add_merges(const Vocabulary& vocabulary, const TokenIndex& index, BytePairs& pairs) {
  std::string product;
  for (std::size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string_view merge = vocabulary.merges[rank];
    const std::size_t space = merge.find(' ');
    const auto where = [&] { return "merge " + std::to_string(rank) + " is " + quoted(merge) + ", "; };
    if (space == std::string_view::npos) refuse(vocabulary, "merges", where() + "expected 'left right'");
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    product.assign(left).append(right);
    const TokenId left_id = index.find(left), right_id = index.find(right), product_id = index.find(product);
    for (const auto& [text, id] :
         {std::pair{left, left_id}, {right, right_id}, {std::string_view(product), product_id}}) {
      if (id < 0) refuse(vocabulary, "merges", where() + "but there is no token " + quoted(text));
    }
    pairs.add(left_id, right_id, {static_cast<std::uint32_t>(rank), product_id});
  }
}

}  // namespace cga
