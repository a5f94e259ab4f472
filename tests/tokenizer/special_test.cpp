// Special tokens, the ends of a generation, and every refusal of a bad vocabulary.
#include <functional>

#include "cga/error.h"
#include "support/catch.h"
#include "tokenizer/pre_tokenizer.h"
#include "vectors.h"

namespace cga::test {
namespace {

using Small = SmallVocabulary;
using Ids = std::vector<TokenId>;

/// The message with which a vocabulary is refused after `damage` was done to it.
std::string refusal(const std::function<void(Vocabulary&)>& damage) {
  SmallVocabulary vocabulary("smollm");
  damage(vocabulary.data);
  try {
    make_tokenizer(vocabulary.data);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    return error.what();
  }
  return "accepted";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("special tokens are found longest first, control tokens only when asked for") {
  const SmallVocabulary vocabulary("gpt2");
  const auto tokenizer = make_tokenizer(vocabulary.data);
  CHECK(tokenizer->encode("<|end|><|end|>+<user>", true) ==
        Ids{Small::control, Small::longer_control, Small::user_defined});
  const Ids plain = tokenizer->encode("<|end|><user>", false);
  CHECK(plain.back() == Small::user_defined);
  CHECK(std::find(plain.begin(), plain.end(), Small::control) == plain.end());
  CHECK(tokenizer->decode(plain) == "<|end|><user>");
  const Ids padding = tokenizer->encode("[PAD]", true);
  CHECK(std::find(padding.begin(), padding.end(), Small::unused) == padding.end());
}

TEST_CASE("control tokens are no text unless asked for") {
  const SmallVocabulary vocabulary("gpt2");
  const auto tokenizer = make_tokenizer(vocabulary.data);
  CHECK(tokenizer->token_bytes(Small::control) == "");
  CHECK(tokenizer->token_bytes(Small::control, true) == "<|end|>");
  CHECK(tokenizer->token_bytes(Small::user_defined) == "<user>");
  CHECK(tokenizer->token_bytes(' ') == " ");
  CHECK(tokenizer->token_bytes(-1) == "");
  CHECK(tokenizer->token_bytes(Small::n_tokens) == "");
  CHECK(tokenizer->n_vocab() == Small::n_tokens);
}

TEST_CASE("a generation ends at the file's end tokens and at those with well-known names") {
  SmallVocabulary vocabulary("gpt2");
  vocabulary.data.tokens[Small::longer_control] = "<|im_end|>";
  vocabulary.data.tokens[300] = "<|eot_id|>";  // a normal token that is only spelled like one
  vocabulary.data.eot = Small::user_defined;
  // The renamed token is no longer what its merge makes; without merges nothing refers to it.
  vocabulary.data.merges.clear();
  const auto tokenizer = make_tokenizer(vocabulary.data);
  CHECK(tokenizer->is_end(Small::control));  // eos
  CHECK(tokenizer->is_end(Small::user_defined));
  CHECK(tokenizer->is_end(Small::longer_control));
  CHECK_FALSE(tokenizer->is_end(300));
  CHECK_FALSE(tokenizer->is_end('a'));
  CHECK(tokenizer->eos() == Small::control);
  CHECK(tokenizer->bos() == Small::control);
  CHECK_FALSE(tokenizer->adds_bos());
}

TEST_CASE("a byte without a token is dropped, and its neighbours meet") {
  SmallVocabulary vocabulary("gpt2");
  vocabulary.data.tokens[0x04] = "<unreachable>";
  const auto tokenizer = make_tokenizer(vocabulary.data);
  CHECK(tokenizer->decode(tokenizer->encode("a\x04z", false)) == "az");
}

TEST_CASE("each damage to a vocabulary is refused with what was found and expected") {
  CHECK(contains(refusal([](Vocabulary& v) { v.model = "llama"; }),
                 "small.gguf: tokenizer.ggml.model: found 'llama'"));
  CHECK(contains(refusal([](Vocabulary& v) { v.pre_tokenizer = "tekken"; }),
                 "found 'tekken', expected one of gpt2, smollm, llama-bpe, qwen2"));
  CHECK(contains(refusal([](Vocabulary& v) { v.tokens.clear(); }), "the vocabulary is empty"));
  CHECK(contains(refusal([](Vocabulary& v) { v.kinds.pop_back(); }),
                 "found 3259 types, expected one for each of 3260 tokens"));
  CHECK(contains(refusal([](Vocabulary& v) { v.eos = Small::n_tokens; }),
                 "found 3260, expected a token below 3260"));
  CHECK(contains(refusal([](Vocabulary& v) { v.bos = -2; }), "tokenizer.ggml.bos_token_id: found -2"));
  CHECK(contains(refusal([](Vocabulary& v) { v.eot = 99999; }), "tokenizer.ggml.eot_token_id"));
  CHECK(contains(refusal([](Vocabulary& v) { v.bos = -1, v.add_bos = true; }), "bos_token_id: missing"));
  CHECK(contains(refusal([](Vocabulary& v) { v.tokens['e'] = "<gone>"; }),
                 "no token for byte 101, expected 'e'"));
  CHECK(contains(refusal([](Vocabulary& v) { v.merges[7] = "nospace"; }),
                 "merge 7 is 'nospace', expected 'left right'"));
  CHECK(contains(refusal([](Vocabulary& v) { v.merges[7] = "t qqq"; }), "there is no token 'qqq'"));
  CHECK(contains(refusal([](Vocabulary& v) { v.merges[7] = "q x"; }), "there is no token 'qx'"));
}

TEST_CASE("a file may leave out the kinds of tokens") {
  SmallVocabulary vocabulary("qwen2");
  vocabulary.data.kinds.clear();
  const auto tokenizer = make_tokenizer(vocabulary.data);
  CHECK(tokenizer->token_bytes(Small::control) == "<|end|>");
}

}  // namespace cga::test
