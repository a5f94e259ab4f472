// The tokenizer: special tokens are cut out of a text, what lies between is normalised and split into words,
// and each word's bytes are merged into tokens. The steps have files of their own; this one joins them.
#include "cga/tokenizer.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "tokenizer/byte_alphabet.h"
#include "tokenizer/byte_pairs.h"
#include "tokenizer/normal_form.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/special_tokens.h"
#include "tokenizer/token_index.h"
#include "tokenizer/vocabulary.h"
#include "tokenizer/vocabulary_check.h"

namespace cga {
namespace {

/// Tokens that end a turn or a text in the vocabularies in use, whatever the file names as its end.
constexpr std::array<std::string_view, 4> end_names{"<|im_end|>", "<|eot_id|>", "<|endoftext|>",
                                                    "<|end_of_text|>"};

class BytePairTokenizer final : public Tokenizer {
 public:
  BytePairTokenizer(const Vocabulary& vocabulary, const PreTokenizer& pre_tokenizer);

  std::vector<TokenId> encode(std::string_view text, bool parse_special) const override;
  std::string token_bytes(TokenId id, bool special) const override;

  std::int32_t n_vocab() const override { return static_cast<std::int32_t>(kinds_.size()); }
  bool is_end(TokenId id) const override { return std::find(ends_.begin(), ends_.end(), id) != ends_.end(); }
  bool adds_bos() const override { return add_bos_; }
  TokenId bos() const override { return bos_; }
  TokenId eos() const override { return eos_; }

 private:
  std::string_view bytes_of(TokenId id) const;
  void store_bytes(const Vocabulary& vocabulary);
  void encode_text(std::string_view text, std::vector<TokenId>& ids) const;
  void encode_word(std::string_view word, std::vector<TokenId>& ids) const;

  const PreTokenizer& pre_tokenizer_;
  WordPattern words_;
  BytePairs pairs_;
  SpecialTokens special_tokens_;
  TokenIndex whole_words_;                // by bytes; empty unless the pre-tokenizer wants it
  std::array<TokenId, 256> byte_tokens_;  // -1: the vocabulary has none
  std::string bytes_;                     // of all tokens, one after the other
  std::vector<std::size_t> offsets_;      // [n_vocab + 1], into bytes_
  std::vector<TokenKind> kinds_;          // [n_vocab]
  std::vector<TokenId> ends_;
  TokenId bos_, eos_;
  bool add_bos_;
};

bool is_written_out(TokenKind kind) {
  return kind == TokenKind::normal || kind == TokenKind::byte;
}

BytePairTokenizer::BytePairTokenizer(const Vocabulary& vocabulary, const PreTokenizer& pre_tokenizer)
    : pre_tokenizer_(pre_tokenizer),
      words_(pre_tokenizer.pattern),
      pairs_(vocabulary.merges.size()),
      whole_words_(pre_tokenizer.whole_words ? vocabulary.tokens.size() : 0),
      kinds_(vocabulary.kinds),
      bos_(vocabulary.bos),
      eos_(vocabulary.eos),
      add_bos_(vocabulary.add_bos) {
  kinds_.resize(vocabulary.tokens.size(), TokenKind::normal);
  const TokenIndex index = index_tokens(vocabulary);
  byte_tokens_ = find_byte_tokens(vocabulary, index);
  add_merges(vocabulary, index, pairs_);
  store_bytes(vocabulary);

  for (const TokenId id : {vocabulary.eos, vocabulary.eot}) {
    if (id >= 0) ends_.push_back(id);
  }
  for (TokenId id = 0; id < n_vocab(); ++id) {
    const TokenKind kind = kinds_[static_cast<std::size_t>(id)];
    const std::string_view text = vocabulary.tokens[static_cast<std::size_t>(id)];
    if (kind == TokenKind::control || kind == TokenKind::user_defined) {
      special_tokens_.add(text, id, kind == TokenKind::control);
    }
    if (kind != TokenKind::normal && std::find(end_names.begin(), end_names.end(), text) != end_names.end()) {
      ends_.push_back(id);
    }
    if (pre_tokenizer.whole_words && is_written_out(kind)) whole_words_.add(bytes_of(id), id);
  }
}

void BytePairTokenizer::store_bytes(const Vocabulary& vocabulary) {
  const ByteAlphabet alphabet;
  offsets_.reserve(kinds_.size() + 1);
  offsets_.push_back(0);
  for (std::size_t i = 0; i < kinds_.size(); ++i) {
    if (is_written_out(kinds_[i])) {
      alphabet.append_bytes(bytes_, vocabulary.tokens[i]);
    } else {
      bytes_.append(vocabulary.tokens[i]);
    }
    offsets_.push_back(bytes_.size());
  }
}

std::string_view BytePairTokenizer::bytes_of(TokenId id) const {
  const auto i = static_cast<std::size_t>(id);
  return std::string_view(bytes_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
}

std::vector<TokenId> BytePairTokenizer::encode(std::string_view text, bool parse_special) const {
  std::vector<TokenId> ids;
  ids.reserve(text.size() / 3);
  std::size_t at = 0;
  while (const auto special = special_tokens_.find(text, at, parse_special)) {
    encode_text(text.substr(at, special->begin - at), ids);
    ids.push_back(special->id);
    at = special->begin + special->length;
  }
  encode_text(text.substr(at), ids);
  return ids;
}

void BytePairTokenizer::encode_text(std::string_view text, std::vector<TokenId>& ids) const {
  std::string normalised;
  if (pre_tokenizer_.nfc && may_change_in_nfc(text)) text = normalised = to_nfc(text);
  WordReader words(words_, text);
  for (std::string_view word = words.next(); !word.empty(); word = words.next()) encode_word(word, ids);
}

void BytePairTokenizer::encode_word(std::string_view word, std::vector<TokenId>& ids) const {
  if (pre_tokenizer_.whole_words) {
    if (const TokenId id = whole_words_.find(word); id >= 0) return ids.push_back(id);
  }
  // The word's bytes become tokens at the end of `ids`, where they are merged.
  const std::size_t begin = ids.size();
  for (const char c : word) {
    if (const TokenId id = byte_tokens_[static_cast<unsigned char>(c)]; id >= 0) ids.push_back(id);
  }
  ids.resize(begin + pairs_.merge(ids.data() + begin, ids.size() - begin));
}

std::string BytePairTokenizer::token_bytes(TokenId id, bool special) const {
  if (id < 0 || id >= n_vocab()) return {};
  const TokenKind kind = kinds_[static_cast<std::size_t>(id)];
  const bool is_text = is_written_out(kind) || kind == TokenKind::user_defined;
  return is_text || special ? std::string(bytes_of(id)) : std::string();
}

}  // namespace

std::string Tokenizer::decode(std::span<const TokenId> ids, bool special) const {
  std::string text;
  for (const TokenId id : ids) text += token_bytes(id, special);
  return text;
}

std::unique_ptr<Tokenizer> make_tokenizer(const Vocabulary& vocabulary) {
  const PreTokenizer& pre_tokenizer = check_vocabulary(vocabulary);
  return std::make_unique<BytePairTokenizer>(vocabulary, pre_tokenizer);
}

}  // namespace cga
