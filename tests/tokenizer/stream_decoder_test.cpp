// Streaming decode: what is printed is always whole code points, however tokens cut them.
#include "support/catch.h"
#include "tokenizer/utf8.h"
#include "vectors.h"

namespace cga::test {
namespace {

/// Feeds ids one by one, checking that every part is whole. @return the parts
std::vector<std::string> stream(const Tokenizer& tokenizer, const std::vector<TokenId>& ids) {
  StreamDecoder decoder(tokenizer);
  std::vector<std::string> parts;
  for (const TokenId id : ids) parts.push_back(decoder.push(id));
  parts.push_back(decoder.finish());
  for (const std::string& part : parts) REQUIRE(well_formed_prefix(part) == part.size());
  return parts;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += part;
  return text;
}

/// One token a byte: the small vocabulary's first 256.
std::vector<TokenId> byte_tokens(std::string_view bytes) {
  std::vector<TokenId> ids;
  for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

}  // namespace

TEST_CASE("an emoji that is split over tokens appears when it is whole") {
  const SmallVocabulary vocabulary("gpt2");
  const auto tokenizer = make_tokenizer(vocabulary.data);
  CHECK(stream(*tokenizer, byte_tokens("a\xf0\x9f\x99\x82!")) ==
        std::vector<std::string>{"a", "", "", "", "\xf0\x9f\x99\x82", "!", ""});
  CHECK(stream(*tokenizer, byte_tokens("\xf0\x9f")) ==
        std::vector<std::string>{"", "", std::string(replacement_character)});
}

TEST_CASE("all texts stream to themselves") {
  const SmallVocabulary vocabulary("smollm");
  const auto tokenizer = make_tokenizer(vocabulary.data);
  for (const std::string& text : read_texts("texts.jsonl")) {
    REQUIRE(joined(stream(*tokenizer, tokenizer->encode(text, false))) == text);
    REQUIRE(joined(stream(*tokenizer, byte_tokens(text))) == text);
  }
}

TEST_CASE("invalid bytes become what Python's errors=replace makes of them") {
  const SmallVocabulary vocabulary("gpt2");
  const auto tokenizer = make_tokenizer(vocabulary.data);
  for (const std::string& line : read_lines(vector_path("replaced.jsonl"))) {
    const auto row = nlohmann::json::parse(line);
    const std::string hex = row[0];
    std::string bytes;
    for (std::size_t i = 0; i < hex.size(); i += 2) {
      bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    CAPTURE(hex);
    CHECK(joined(stream(*tokenizer, byte_tokens(bytes))) == row[1].get<std::string>());
  }
}

TEST_CASE("control tokens stream as nothing and do not disturb what is held back") {
  const SmallVocabulary vocabulary("gpt2");
  const auto tokenizer = make_tokenizer(vocabulary.data);
  CHECK(joined(stream(*tokenizer, {0xc3, SmallVocabulary::control, 0xa9})) == "\xc3\xa9");
}

}  // namespace cga::test
