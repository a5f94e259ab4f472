#include "runtime/vocabulary_from_file.h"

#include <limits>
#include <string>
#include <utility>

#include "cga/error.h"

namespace cga {
namespace {

[[noreturn]] void refuse(const ModelFile& file, std::string_view key, const std::string& problem) {
  throw Error(ErrorKind::bad_file, file.path().string() + ": " + std::string(key), problem,
              "the file is damaged or foreign: fetch or convert it again");
}

template <class T>
T required(const ModelFile& file, std::string_view key, std::optional<T> value) {
  if (!value) refuse(file, key, "missing, but a tokenizer needs it");
  return std::move(*value);
}

TokenId token_id(const ModelFile& file, std::string_view key) {
  const std::int64_t id = file.integer(key).value_or(-1);
  if (id < -1 || id > std::numeric_limits<TokenId>::max()) {
    refuse(file, key, "found " + std::to_string(id) + ", expected a token id");
  }
  return static_cast<TokenId>(id);
}

std::vector<TokenKind> token_kinds(const ModelFile& file, std::string_view key) {
  std::vector<TokenKind> kinds;
  for (const std::int64_t kind : file.integers(key).value_or(std::vector<std::int64_t>())) {
    if (kind < 1 || kind > 6) refuse(file, key, "found type " + std::to_string(kind) + ", expected 1 to 6");
    kinds.push_back(static_cast<TokenKind>(kind));
  }
  return kinds;
}

}  // namespace

Vocabulary vocabulary_from_file(const ModelFile& file) {
  Vocabulary vocabulary;
  vocabulary.origin = file.path().string();
  vocabulary.model = required(file, "tokenizer.ggml.model", file.text("tokenizer.ggml.model"));
  if (vocabulary.model != "gpt2") return vocabulary;  // make_tokenizer refuses it; the other keys differ
  vocabulary.pre_tokenizer = required(file, "tokenizer.ggml.pre", file.text("tokenizer.ggml.pre"));
  vocabulary.tokens = required(file, "tokenizer.ggml.tokens", file.texts("tokenizer.ggml.tokens"));
  vocabulary.merges = required(file, "tokenizer.ggml.merges", file.texts("tokenizer.ggml.merges"));
  vocabulary.kinds = token_kinds(file, "tokenizer.ggml.token_type");
  vocabulary.bos = token_id(file, "tokenizer.ggml.bos_token_id");
  vocabulary.eos = token_id(file, "tokenizer.ggml.eos_token_id");
  vocabulary.eot = token_id(file, "tokenizer.ggml.eot_token_id");
  // Files of Llama 3's family may leave this out, and their models want it.
  const bool default_add_bos = vocabulary.pre_tokenizer == "llama-bpe" && vocabulary.bos >= 0;
  vocabulary.add_bos = file.boolean("tokenizer.ggml.add_bos_token").value_or(default_add_bos);
  return vocabulary;
}

}  // namespace cga
