// A model's numbers: read from its file, and refused with names when they make no sense.
#include "model/hparams.h"

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include "cga/error.h"
#include "support/catch.h"
#include "support/gguf_writer.h"

namespace cga {
namespace {

using test::GgufWriter;

const Family& llama() {
  for (const Family* family : families()) {
    if (family->architecture == "llama") return *family;
  }
  FAIL("the llama family is missing");
  std::abort();
}

/// A valid llama header; `change` may overrule keys by setting them first (later keys are not repeated).
Hparams read(const std::function<void(std::map<std::string, std::uint32_t>&)>& change,
             const std::string& scaling = "") {
  std::map<std::string, std::uint32_t> numbers{
      {"llama.block_count", 2},          {"llama.context_length", 256},
      {"llama.embedding_length", 64},    {"llama.feed_forward_length", 96},
      {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2}};
  change(numbers);
  GgufWriter writer;
  writer.set("general.architecture", "llama").set("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  for (const auto& [key, value] : numbers) writer.set(key, value);
  if (!scaling.empty()) writer.set("llama.rope.scaling.type", scaling).set("llama.rope.scaling.factor", 4.0f);
  const std::vector<float> norm(64, 1.0f);
  writer.add_tensor("output_norm.weight", {64}, 0, std::as_bytes(std::span(norm)));
  const auto path = std::filesystem::temp_directory_path() / "cga_hparams_test.gguf";
  writer.write(path);
  const auto file = open_model_file(path);
  std::filesystem::remove(path);
  return read_hparams(*file, llama());
}

TEST_CASE("A header's numbers are read, and what is absent has its usual value") {
  const Hparams hparams = read([](auto&) {});
  CHECK(hparams.n_layers == 2);
  CHECK(hparams.dim == 64);
  CHECK(hparams.ffn_dim == 96);
  CHECK(hparams.attention.n_heads == 4);
  CHECK(hparams.attention.n_kv_heads == 2);
  CHECK(hparams.attention.head_dim == 16);
  CHECK(hparams.attention.rope_pairs == RopePairs::interleaved);
  CHECK(hparams.rope_base == 10000.0);
  CHECK(hparams.rope_linear_scale == 1.0);
}

TEST_CASE("Linear RoPE scaling is honoured, other kinds are refused by name") {
  CHECK(read([](auto&) {}, "linear").rope_linear_scale == 4.0);
  try {
    read([](auto&) {}, "longrope");
    FAIL("longrope was accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    CHECK(std::string(error.what()).find("llama.rope.scaling.type") != std::string::npos);
    CHECK(std::string(error.what()).find("'longrope'") != std::string::npos);
  }
}

TEST_CASE("Impossible numbers are refused with key, found and expected") {
  struct Case {
    const char* key;
    std::uint32_t value;
    const char* expected;
  };
  for (const Case& c : {Case{"llama.attention.head_count_kv", 3, "a divisor of 4"},
                        Case{"llama.attention.head_count", 0, "a number from 1"},
                        Case{"llama.block_count", 4000000000u, "a number from 1"},
                        Case{"llama.attention.key_length", 24, "a multiple of 16"},
                        Case{"llama.rope.dimension_count", 8, "the head's width, 16"},
                        Case{"llama.attention.value_length", 32, "the key length, 16"}}) {
    INFO(c.key);
    try {
      read([&](auto& numbers) { numbers[c.key] = c.value; });
      FAIL("accepted");
    } catch (const Error& error) {
      const std::string text = error.what();
      CHECK(error.exit_code() == 3);
      CHECK(text.find(c.key) != std::string::npos);
      CHECK(text.find(std::to_string(c.value)) != std::string::npos);
      CHECK(text.find(c.expected) != std::string::npos);
    }
  }
}

TEST_CASE("A missing number is refused by its key") {
  try {
    read([](auto& numbers) { numbers.erase("llama.embedding_length"); });
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(std::string(error.what()).find("'llama.embedding_length': found nothing") != std::string::npos);
  }
}

}  // namespace
}  // namespace cga
