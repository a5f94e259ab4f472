// Tokens from the engine: those that a sampler picks from the rows of logits, brought back whole (cpu) or as
// shortlists (scalar, as on a device), alone and in a batch, and errors of one row only.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "format/model_file.h"
#include "support/catch.h"

namespace cga::test {
namespace {

std::filesystem::path tiny_path(const std::string& name) {
  return std::filesystem::path(CGA_VECTORS) / "tiny" / (name + ".gguf");
}

EngineOptions options(const std::filesystem::path& model, const std::string& device) {
  EngineOptions result;
  result.model = model;
  result.device = device;
  result.kv = KvType::bf16;
  result.n_ctx = 256;
  result.n_sequences = 3;
  return result;
}

/// Ways to sample that a shortlist decides always, often, and never.
std::vector<SamplingOptions> ways() {
  std::vector<SamplingOptions> all(6);
  all[1].temperature = 0.0f;
  all[2].repeat_penalty = 1.3f;
  all[2].frequency_penalty = 0.2f;
  all[3].top_k = 0;
  all[4].top_k = 0, all[4].top_p = 1.0f, all[4].min_p = 0.01f;
  all[5].top_k = 0, all[5].top_p = 1.0f, all[5].min_p = 0.0f, all[5].temperature = 1.5f;
  for (std::size_t i = 0; i < all.size(); ++i) all[i].seed = i;
  return all;
}

std::vector<TokenId> prompt(std::size_t sequence) {
  std::vector<TokenId> tokens(5 + sequence);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<TokenId>((sequence * 91 + i * 37 + 5) % 250);
  }
  return tokens;
}

/// Texts of 20 tokens after three prompts, one batch a step.
/// @param next  the token after a row
template <class Next>
std::vector<std::vector<TokenId>> continue_prompts(Engine& engine, const Next& next) {
  std::vector<Session> sessions;
  std::vector<std::vector<TokenId>> fed, texts(3);
  for (std::size_t s = 0; s < 3; ++s) sessions.emplace_back(engine), fed.push_back(prompt(s));
  for (int step = 0; step < 20; ++step) {
    std::vector<Feed> feeds;
    for (std::size_t s = 0; s < 3; ++s) feeds.push_back({&sessions[s], fed[s]});
    REQUIRE(engine.feed(feeds) == 3);
    for (std::size_t s = 0; s < 3; ++s) {
      texts[s].push_back(next(s));
      fed[s] = {texts[s].back()};
    }
  }
  return texts;
}

/// A model whose embedding of one token is not a number, so that only texts with that token go wrong.
std::filesystem::path damaged_model(TokenId token) {
  const std::filesystem::path from = tiny_path("llama-legacy");
  std::ifstream in(from, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), {});
  const auto file = open_model_file(from);
  const std::span<const std::byte> table = file->find("token_embd.weight")->data;
  const std::string_view text(reinterpret_cast<const char*>(table.data()), table.size());
  const std::size_t row = table.size() / 284 * static_cast<std::size_t>(token);
  const std::size_t at = bytes.find(text) + row;
  bytes[at] = 0x00, bytes[at + 1] = 0x7e;  // the scale of its first block, in f16
  std::filesystem::path path = std::filesystem::temp_directory_path() / "cga-sample-test.gguf";
  std::ofstream(path, std::ios::binary) << bytes;
  return path;
}

std::string complaint(Engine& engine, std::int64_t row, Sampler& sampler) {
  try {
    engine.sample(row, sampler);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a sampled token is the sampler's choice from its row of logits", "[sample]") {
  for (const std::string device : {"cpu", "scalar"}) {
    Engine engine(options(tiny_path("llama-legacy"), device));
    for (const SamplingOptions& way : ways()) {
      INFO(device << ", way " << way.seed);
      const auto samplers = [&] {
        std::vector<Sampler> all;
        for (int s = 0; s < 3; ++s) all.emplace_back(way);
        return all;
      };
      std::vector<Sampler> by_engine = samplers(), by_hand = samplers();
      const auto sampled = continue_prompts(engine, [&](std::size_t s) {
        const TokenId id = engine.sample(static_cast<std::int64_t>(s), by_engine[s]);
        by_engine[s].accept(id);
        return id;
      });
      const auto expected = continue_prompts(engine, [&](std::size_t s) {
        const TokenId id = by_hand[s].sample(engine.logits(static_cast<std::int64_t>(s)));
        by_hand[s].accept(id);
        return id;
      });
      CHECK(sampled == expected);
    }
  }
}

TEST_CASE("sequences of one batch may sample in different ways, in any order", "[sample]") {
  Engine engine(options(tiny_path("qwen2-mixed"), "scalar"));
  std::vector<Session> sessions;
  std::vector<std::vector<TokenId>> tokens;
  for (std::size_t s = 0; s < 3; ++s) sessions.emplace_back(engine), tokens.push_back(prompt(s));
  std::vector<Feed> feeds;
  for (std::size_t s = 0; s < 3; ++s) feeds.push_back({&sessions[s], tokens[s]});
  REQUIRE(engine.feed(feeds) == 3);
  for (const SamplingOptions& way : ways()) {
    for (const std::int64_t row : {2, 0, 1}) {
      Sampler by_engine(way), by_hand(way);
      for (const TokenId id : tokens[static_cast<std::size_t>(row)]) by_engine.accept(id), by_hand.accept(id);
      INFO("way " << way.seed << ", row " << row);
      CHECK(engine.sample(row, by_engine) == by_hand.sample(engine.logits(row)));
    }
  }
}

TEST_CASE("rows are those of the last run, whichever way it was run", "[sample]") {
  Engine engine(options(tiny_path("llama-legacy"), "scalar"));
  Session session(engine);
  Sampler sampler{SamplingOptions{}};
  CHECK_THROWS_AS(engine.sample(0, sampler), Error);
  const std::vector<TokenId> tokens = prompt(2);
  const Feed all{&session, tokens, Feed::Want::all};
  const std::span<const float> logits = engine.run({&all, 1});
  const auto n_vocab = static_cast<std::size_t>(engine.info().n_vocab);
  REQUIRE(logits.size() == tokens.size() * n_vocab);
  const std::span<const float> third = engine.logits(3);
  CHECK(std::equal(third.begin(), third.end(), logits.subspan(3 * n_vocab).begin()));
  Sampler other{SamplingOptions{}};
  CHECK(engine.sample(3, sampler) == other.sample(third));
  CHECK_THROWS_AS(engine.logits(static_cast<std::int64_t>(tokens.size())), Error);
  CHECK_THROWS_AS(engine.sample(-1, sampler), Error);

  const Feed silent{&session, std::span(tokens).first(1), Feed::Want::none};
  CHECK(engine.feed({&silent, 1}) == 0);
  CHECK_THROWS_AS(engine.logits(0), Error);
}

TEST_CASE("logits that are no numbers fail their own sequence, by name", "[sample]") {
  const TokenId broken = 100;
  const std::filesystem::path path = damaged_model(broken);
  std::string of_device[2];
  for (const std::string device : {"cpu", "scalar"}) {
    Engine engine(options(path, device));
    std::vector<Session> sessions;
    for (int s = 0; s < 3; ++s) sessions.emplace_back(engine);
    const std::vector<TokenId> right = {3, 4, 5}, wrong = {3, broken, 5};
    const Feed feeds[] = {{&sessions[0], right}, {&sessions[1], wrong}, {&sessions[2], right}};
    REQUIRE(engine.feed(feeds) == 3);
    Sampler sampler{SamplingOptions{}}, same{SamplingOptions{}};
    const std::string text = complaint(engine, 1, sampler);
    INFO(device << ": " << text);
    CHECK(text.find("row 1 of the batch") != std::string::npos);
    CHECK(text.find("token 0 has") != std::string::npos);
    CHECK(engine.sample(0, sampler) == engine.sample(2, same));
    of_device[device == "scalar"] = text;

    sessions[1].truncate(1);
    const Feed alone{&sessions[1], std::span(wrong).subspan(1)};
    REQUIRE(engine.feed({&alone, 1}) == 1);
    CHECK(complaint(engine, 0, sampler).starts_with("logits: token 0 has"));
  }
  CHECK(of_device[0] == of_device[1]);
  std::filesystem::remove(path);
}

}  // namespace cga::test
