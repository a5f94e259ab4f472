// What a tokenizer is made from: the vocabulary a model file carries, as plain data.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "cga/tokenizer.h"

namespace cga {

/// GGUF's tokenizer.ggml.token_type.
enum class TokenKind : std::uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

struct Vocabulary {
  std::string origin;                    // the file, for messages
  std::string model;                     // tokenizer.ggml.model: "gpt2" is byte-level BPE
  std::string pre_tokenizer;             // tokenizer.ggml.pre: gpt2, smollm, llama-bpe, qwen2
  std::vector<std::string_view> tokens;  // [n_vocab], in GPT-2's printable byte alphabet
  std::vector<TokenKind> kinds;          // [n_vocab], or empty: all normal
  std::vector<std::string_view> merges;  // "left right", best first
  TokenId bos = -1, eos = -1, eot = -1;
  bool add_bos = false;
};

/// Builds a tokenizer; copies what it keeps. @throws Error (bad_file) naming file, key, found and expected
std::unique_ptr<Tokenizer> make_tokenizer(const Vocabulary& vocabulary);

}  // namespace cga
