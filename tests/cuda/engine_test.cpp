// The engine on a GPU: its logits beside those of transformers, whatever the neighbours, the chunks of a text
// and whether a step was recorded.
#include "cga/engine.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "cuda/gpu.h"
#include "runtime/reference_logits.h"
#include "support/catch.h"

namespace cga::test {
namespace {

const std::vector<std::string>& tiny_models() {
  static const std::vector<std::string> names{"llama-float", "llama-legacy", "llama-k", "qwen2-mixed"};
  return names;
}

std::filesystem::path tiny_path(const std::string& name) {
  return std::filesystem::path(CGA_VECTORS) / "tiny" / (name + ".gguf");
}

std::filesystem::path checkpoint_path(const std::string& name) {
  const char* folder = std::getenv("CGA_MODELS");
  const char* home = std::getenv("HOME");
  const std::filesystem::path models =
      folder != nullptr ? std::filesystem::path(folder)
                        : std::filesystem::path(home != nullptr ? home : "") / ".cache/cga/models";
  return models / (name + ".gguf");
}

EngineOptions options(const std::filesystem::path& model, KvType kv) {
  EngineOptions result;
  result.model = model;
  result.device = "cuda";
  result.kv = kv;
  result.n_ctx = 256;
  return result;
}

std::vector<float> run(Engine& engine, Session& session, std::span<const TokenId> tokens) {
  const Feed feed{&session, tokens, Feed::Want::all};
  const std::span<const float> logits = engine.run({&feed, 1});
  return {logits.begin(), logits.end()};
}

std::vector<float> run_in_pieces(Engine& engine, std::span<const TokenId> tokens, std::size_t piece) {
  Session session(engine);
  std::vector<float> logits;
  for (std::size_t at = 0; at < tokens.size(); at += piece) {
    const auto some = run(engine, session, tokens.subspan(at, std::min(piece, tokens.size() - at)));
    logits.insert(logits.end(), some.begin(), some.end());
  }
  return logits;
}

Distance distance_of(const Reference& reference, std::span<const float> logits) {
  Distance distance;
  distance.add(reference, reference.texts[0], logits);
  return distance;
}

}  // namespace

TEST_CASE("logits are those of transformers: read as text, and token by token", "[gpu]") {
  if (!gpu()) return;
  for (const std::string& name : tiny_models()) {
    const Reference reference =
        read_reference(std::filesystem::path(CGA_VECTORS) / "logits" / (name + ".logits"));
    const std::span<const TokenId> tokens = reference.texts[0].ids;
    struct Mode {
      const char* what;
      bool exact;
      KvType kv;
      double bound;
    };
    for (const Mode& mode :
         {Mode{"exact, f32 cache", true, KvType::f32, 1e-6}, Mode{"bf16 cache", false, KvType::bf16, 2e-3}}) {
      EngineOptions with = options(tiny_path(name), mode.kv);
      with.exact = mode.exact;
      Engine engine(with);
      for (const std::size_t piece : {tokens.size(), std::size_t{1}}) {
        const Distance distance = distance_of(reference, run_in_pieces(engine, tokens, piece));
        std::cout << name << ", " << mode.what << (piece == 1 ? ", token by token" : ", as text")
                  << ": mean KL " << distance.mean_divergence() << ", largest logit error "
                  << distance.max_logit_error << "\n";
        INFO(name << ", " << mode.what << ", pieces of " << piece);
        REQUIRE(distance.n_positions == static_cast<std::int64_t>(tokens.size()));
        REQUIRE(distance.mean_divergence() <= mode.bound);
      }
    }
  }
}

TEST_CASE("logits of real checkpoints are those of transformers", "[gpu]") {
  if (!gpu()) return;
  for (const std::string name :
       {"SmolLM2-135M-Instruct.Q4_1", "Qwen2.5-Coder-0.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct"}) {
    const std::filesystem::path path = checkpoint_path(name);
    if (!std::filesystem::exists(path)) {
      WARN("skipped: " << path.string() << " is not there");
      continue;
    }
    const Reference reference =
        read_reference(std::filesystem::path(CGA_VECTORS) / "logits" / (name + ".logits"));
    for (const bool exact : {true, false}) {
      EngineOptions with = options(path, exact ? KvType::f32 : KvType::bf16);
      with.exact = exact;
      with.n_ctx = 1024;
      Engine engine(with);
      for (const std::size_t piece : {std::size_t{1024}, std::size_t{1}}) {
        const Distance distance =
            distance_of(reference, run_in_pieces(engine, reference.texts[0].ids, piece));
        std::cout << name << (exact ? ", exact, f32 cache" : ", bf16 cache")
                  << (piece == 1 ? ", token by token" : ", as text") << ": mean KL "
                  << distance.mean_divergence() << ", " << distance.n_positions << " positions\n";
        INFO(name << ", pieces of " << piece);
        REQUIRE(distance.mean_divergence() <= (exact ? 1e-4 : 2e-3));
      }
    }
  }
}

TEST_CASE("a text's logits do not depend on how it is cut", "[gpu]") {
  if (!gpu()) return;
  for (const KvType kv : {KvType::bf16, KvType::q8, KvType::q4}) {
    Engine whole(options(tiny_path("llama-k"), kv));
    std::vector<TokenId> tokens(200);
    for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<TokenId>((i * 37 + 5) % 250);
    Session session(whole);
    const std::vector<float> expected = run(whole, session, tokens);
    for (const std::int32_t n_ubatch : {1, 33, 64, 199}) {
      EngineOptions with = options(tiny_path("llama-k"), kv);
      with.n_ubatch = n_ubatch;
      Engine engine(with);
      Session cut(engine);
      INFO("pieces of " << n_ubatch);
      REQUIRE(run(engine, cut, tokens) == expected);
    }
  }
}

TEST_CASE("a token's logits do not depend on its neighbours, nor on recording", "[gpu]") {
  if (!gpu()) return;
  constexpr std::size_t n_tokens = 70;
  const auto token = [](std::size_t session, std::size_t t) {
    return static_cast<TokenId>((session * 91 + t * 37 + 5) % 250);
  };
  std::vector<std::vector<float>> alone;
  {
    Engine engine(options(tiny_path("qwen2-mixed"), KvType::bf16));
    for (std::size_t s = 0; s < 33; s += 8) {
      std::vector<TokenId> tokens(n_tokens);
      for (std::size_t t = 0; t < n_tokens; ++t) tokens[t] = token(s, t);
      alone.push_back(run_in_pieces(engine, tokens, 1));
    }
  }
  for (const std::size_t n : {2, 9, 33}) {
    EngineOptions with = options(tiny_path("qwen2-mixed"), KvType::bf16);
    with.n_sequences = static_cast<std::int32_t>(n);
    Engine engine(with);
    std::vector<Session> sessions;
    for (std::size_t s = 0; s < n; ++s) sessions.emplace_back(engine);
    for (std::size_t t = 0; t < n_tokens; ++t) {
      std::vector<TokenId> tokens(n);
      std::vector<Feed> feeds;
      for (std::size_t s = 0; s < n; ++s) tokens[s] = token(s, t);
      for (std::size_t s = 0; s < n; ++s) feeds.push_back({&sessions[s], std::span(tokens).subspan(s, 1)});
      const std::span<const float> logits = engine.run(feeds);
      const auto n_vocab = static_cast<std::size_t>(engine.info().n_vocab);
      for (std::size_t s = 0; s < n; s += 8) {
        INFO("token " << t << " of session " << s << " of " << n);
        REQUIRE(std::memcmp(logits.data() + s * n_vocab, alone[s / 8].data() + t * n_vocab, n_vocab * 4) ==
                0);
      }
    }
  }
}

TEST_CASE("what does not fit is refused before it is loaded, with the context that would", "[gpu]") {
  if (!gpu()) return;
  EngineOptions with;
  with.shape = "llama3-8b";
  with.device = "cuda";
  with.n_ctx = 131072;
  with.memory_limit = std::int64_t{16} << 30;
  try {
    const Engine engine(with);
    FAIL("16 GiB were enough for 4.7 GB of weights and 17 GB of keys and values");
  } catch (const Error& error) {
    REQUIRE(error.kind() == ErrorKind::memory);
    REQUIRE(std::string(error.what()).find("use a context of at most") != std::string::npos);
  }
}

namespace {

/// Bytes of the device that an engine took for a text and some tokens after it.
double taken_by(const Backend& keeper, const EngineOptions& with, std::int64_t* planned) {
  const std::int64_t before = keeper.memory().available;
  Engine engine(with);
  Session session(engine);
  const std::vector<TokenId> tokens(600, 7);
  for (const std::size_t n : {std::size_t{600}, std::size_t{1}, std::size_t{1}, std::size_t{1}}) {
    const Feed feed{&session, std::span(tokens).first(n)};
    static_cast<void>(engine.run({&feed, 1}));
  }
  *planned = engine.plan().total();
  const std::int64_t taken = before - keeper.memory().available;
  std::cout << "planned " << static_cast<double>(*planned) / 1e6 << " MB, taken "
            << static_cast<double>(taken) / 1e6 << " MB\n";
  return static_cast<double>(taken);
}

}  // namespace

TEST_CASE("an engine takes the device memory that its plan names", "[gpu][large]") {
  const auto keeper = gpu();  // keeps the driver's own memory out of the difference
  if (!keeper) return;
  EngineOptions with;
  with.shape = "llama3-8b";
  with.device = "cuda";
  with.n_ctx = 32768;
  std::int64_t planned = 0;
  const double taken = taken_by(*keeper, with, &planned);
  REQUIRE(std::abs(taken - static_cast<double>(planned)) <= 0.03 * static_cast<double>(planned));
}

TEST_CASE("an engine with a compact cache takes no more than its plan names", "[gpu][large]") {
  const auto keeper = gpu();
  if (!keeper) return;
  EngineOptions with = options(tiny_path("qwen2-mixed"), KvType::cga);
  with.sidecar = CGA_VECTORS "/index/two.cga";
  with.n_ctx = 1 << 18;  // what decoded units may take at once would be 60 MB and more
  std::int64_t planned = 0;
  const double taken = taken_by(*keeper, with, &planned);
  REQUIRE(taken <= 1.03 * static_cast<double>(planned) + 32e6);  // code that is loaded when it is first used
}

}  // namespace cga::test
