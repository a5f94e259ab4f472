// The checkpoints' own vocabularies: exact ids as the package `tokenizers` gives for thousands of texts.
#include "runtime/vocabulary_from_file.h"

#include <cstdlib>
#include <filesystem>

#include "support/catch.h"
#include "tokenizer/vectors.h"

namespace cga::test {
namespace {

std::filesystem::path models_folder() {
  if (const char* folder = std::getenv("CGA_MODELS")) return folder;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home ? home : ".") / ".cache/cga/models";
}

void check_model(const std::string& file_name, const std::string& pre_tokenizer,
                 const std::string& ids_name) {
  const std::filesystem::path path = models_folder() / file_name;
  if (!std::filesystem::exists(path)) {
    WARN("skipped: no model file " << path << " (tools/fetch-models, or set CGA_MODELS)");
    return;
  }
  const auto file = open_model_file(path);
  Vocabulary vocabulary = vocabulary_from_file(*file);
  if (!pre_tokenizer.empty()) vocabulary.pre_tokenizer = pre_tokenizer;
  const auto tokenizer = make_tokenizer(vocabulary);
  const auto texts = read_texts("texts.jsonl"), special = read_texts("special.jsonl");
  const auto ids = read_ids(ids_name + ".ids"), special_ids = read_ids(ids_name + ".special.ids");
  REQUIRE(ids.size() == texts.size());
  REQUIRE(special_ids.size() == special.size());
  CHECK(differences(*tokenizer, texts, ids, 1, false) == "");
  CHECK(differences(*tokenizer, special, special_ids, 1, true) == "");
}

const char* const smollm2 = "SmolLM2-135M-Instruct.Q4_1.gguf";
const char* const qwen_small = "Qwen2.5-Coder-0.5B-Instruct.gguf";
const char* const qwen_large = "Qwen2.5-Coder-1.5B-Instruct.gguf";

}  // namespace

TEST_CASE("SmolLM2 encodes as tokenizers does") {
  check_model(smollm2, "", "smollm2");
}
TEST_CASE("SmolLM2's vocabulary under gpt2 encodes as tokenizers does") {
  check_model(smollm2, "gpt2", "smollm2-gpt2");
}
TEST_CASE("Qwen2.5-Coder 0.5B encodes as tokenizers does") {
  check_model(qwen_small, "", "qwen2");
}
TEST_CASE("Qwen2.5-Coder 1.5B encodes as tokenizers does") {
  check_model(qwen_large, "", "qwen2");
}
TEST_CASE("Qwen2.5's vocabulary under llama-bpe encodes as tokenizers does") {
  check_model(qwen_small, "llama-bpe", "qwen2-llama-bpe");
}

}  // namespace cga::test
