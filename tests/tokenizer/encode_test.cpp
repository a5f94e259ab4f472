// The tokenizer against the package `tokenizers`: exact ids for thousands of texts, and what ids cannot show.
#include "support/catch.h"
#include "tokenizer/normal_form.h"
#include "vectors.h"

namespace cga::test {
TEST_CASE("a small vocabulary encodes as tokenizers does, under each pre-tokenizer") {
  const std::string pre_tokenizer = GENERATE("gpt2", "smollm", "llama-bpe", "qwen2");
  CAPTURE(pre_tokenizer);
  const SmallVocabulary vocabulary(pre_tokenizer);
  const auto tokenizer = make_tokenizer(vocabulary.data);
  const auto texts = read_texts("texts.jsonl");
  const auto ids = read_ids("small-" + pre_tokenizer + ".ids");
  REQUIRE(ids.size() == (texts.size() + 1) / 2);
  CHECK(differences(*tokenizer, texts, ids, 2, false) == "");
}

TEST_CASE("decoding gives the text back, normal form apart") {
  const std::string pre_tokenizer = GENERATE("gpt2", "smollm", "llama-bpe", "qwen2");
  CAPTURE(pre_tokenizer);
  const SmallVocabulary vocabulary(pre_tokenizer);
  const auto tokenizer = make_tokenizer(vocabulary.data);
  for (const std::string& text : read_texts("texts.jsonl")) {
    const std::string expected = pre_tokenizer == "qwen2" ? to_nfc(text) : text;
    REQUIRE(tokenizer->decode(tokenizer->encode(text, false)) == expected);
  }
}

TEST_CASE("bytes that are not UTF-8 come back") {
  const std::string pre_tokenizer = GENERATE("gpt2", "smollm", "llama-bpe", "qwen2");
  CAPTURE(pre_tokenizer);
  const SmallVocabulary vocabulary(pre_tokenizer);
  const auto tokenizer = make_tokenizer(vocabulary.data);
  std::string all_bytes;
  for (int byte = 255; byte >= 0; --byte) all_bytes.push_back(static_cast<char>(byte));
  for (const std::string& text : {all_bytes, std::string("a\xff  b \xe2\x82"), std::string("\xf0\x9f\x99 x"),
                                  std::string("\x80\x80\x80"), std::string("\xed\xa0\x80 \xc0\x80")}) {
    CHECK(tokenizer->decode(tokenizer->encode(text, true)) == text);
  }
}

TEST_CASE("a word of a megabyte takes time in proportion to its length") {
  // A quadratic algorithm would take minutes here; this takes well under a second.
  const std::string pre_tokenizer = GENERATE("smollm", "qwen2");
  const SmallVocabulary vocabulary(pre_tokenizer);
  const auto tokenizer = make_tokenizer(vocabulary.data);
  std::string letters, spaces(1 << 20, ' ');
  for (std::size_t i = 0; i < 1 << 20; ++i) letters.push_back("etaoinshrdlu"[i * i % 97 % 12]);
  for (const std::string& text : {letters, spaces + "x", std::string(1 << 20, '\xff')}) {
    CHECK(tokenizer->decode(tokenizer->encode(text, false)) == text);
  }
}

TEST_CASE("long words merge as short ones do") {
  // Words of up to 48 bytes take another path than longer ones; a word repeated must not depend on which.
  const SmallVocabulary vocabulary("gpt2");
  const auto tokenizer = make_tokenizer(vocabulary.data);
  const auto once = tokenizer->encode("zqthe", false);  // no token spans the seam "ez"
  for (std::size_t n = 2; n < 40; ++n) {
    std::string text;
    std::vector<TokenId> expected;
    for (std::size_t i = 0; i < n; ++i) {
      text += "zqthe";
      expected.insert(expected.end(), once.begin(), once.end());
    }
    CHECK(tokenizer->encode(text, false) == expected);
  }
}

}  // namespace cga::test
