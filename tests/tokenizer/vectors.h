// What the tests of this folder share: the checked-in vectors, and the vocabularies they were made with.
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cga/tokenizer.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/vocabulary.h"

namespace cga::test {

inline std::vector<std::string> read_lines(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

inline std::string vector_path(const std::string& name) {
  return std::string(CGA_VECTORS "/tokenizer/") + name;
}

inline std::vector<std::string> read_texts(const std::string& name) {
  std::vector<std::string> texts;
  for (const std::string& line : read_lines(vector_path(name))) texts.push_back(nlohmann::json::parse(line));
  return texts;
}

inline std::vector<std::vector<TokenId>> read_ids(const std::string& name) {
  std::vector<std::vector<TokenId>> all;
  for (const std::string& line : read_lines(vector_path(name))) {
    std::istringstream words(line);
    all.emplace_back();
    for (TokenId id; words >> id;) all.back().push_back(id);
  }
  return all;
}

/// The texts whose ids differ from the expected ones, as one message; empty if there are none.
inline std::string differences(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                               const std::vector<std::vector<TokenId>>& expected, std::size_t step,
                               bool parse_special) {
  std::string message;
  int n = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const std::string& text = texts.at(i * step);
    const std::vector<TokenId> ids = tokenizer.encode(text, parse_special);
    if (ids == expected[i]) continue;
    if (++n <= 10) {
      message += nlohmann::json(text).dump() + "\n  found    " + nlohmann::json(ids).dump() +
                 "\n  expected " + nlohmann::json(expected[i]).dump() + "\n";
    }
  }
  return n == 0 ? message : message + std::to_string(n) + " texts differ";
}

/// The vocabulary of small.merges: 256 bytes, then a token for each merge, then specials.
struct SmallVocabulary {
  static constexpr TokenId n_text_tokens = 3256, control = 3256, user_defined = 3257, longer_control = 3258,
                           unused = 3259, n_tokens = 3260;

  explicit SmallVocabulary(const std::string& pre_tokenizer) {
    const ByteAlphabet alphabet;
    for (unsigned byte = 0; byte < 256; ++byte) {
      tokens.emplace_back(alphabet.character(static_cast<std::uint8_t>(byte)));
    }
    merges = read_lines(vector_path("small.merges"));
    for (const std::string& merge : merges) {
      const std::size_t space = merge.find(' ');
      tokens.push_back(merge.substr(0, space) + merge.substr(space + 1));
    }
    tokens.insert(tokens.end(), {"<|end|>", "<user>", "<|end|>+", "[PAD]"});
    data.origin = "small.gguf";
    data.model = "gpt2";
    data.pre_tokenizer = pre_tokenizer;
    data.tokens.assign(tokens.begin(), tokens.end());
    data.merges.assign(merges.begin(), merges.end());
    data.kinds.assign(n_text_tokens, TokenKind::normal);
    data.kinds.insert(data.kinds.end(),
                      {TokenKind::control, TokenKind::user_defined, TokenKind::control, TokenKind::unused});
    data.bos = data.eos = control;
  }
  SmallVocabulary(const SmallVocabulary&) = delete;

  std::vector<std::string> tokens, merges;
  Vocabulary data;
};

}  // namespace cga::test
