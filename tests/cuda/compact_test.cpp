// The engine on a GPU with a compact cache: purity to the bit, and logits beside those of the scalar backend
// and the CPU. Skipped, and says so, where there is no GPU.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "cuda/gpu.h"
#include "runtime/purity.h"

namespace cga::test {
namespace {

EngineOptions tiny(const std::string& device) {
  EngineOptions result;
  result.model = CGA_VECTORS "/tiny/qwen2-mixed.gguf";
  result.sidecar = CGA_VECTORS "/index/adapted.cga";
  result.device = device;
  result.kv = KvType::cga;
  result.n_ctx = 768;
  result.n_threads = 2;
  result.kv_window = 64;
  result.kv_sparse_from = 128;
  result.kv_budget = 64;
  return result;
}

/// Logits of all tokens: the first n_prompt as text, the rest as generated, in pieces.
std::vector<float> logits_of(const EngineOptions& options, std::span<const TokenId> tokens,
                             std::size_t n_prompt, std::size_t piece) {
  Engine engine(options);
  Session session(engine);
  std::vector<float> all;
  const auto feed = [&](std::size_t first, std::size_t n, Feed::Span span) {
    const Feed one{&session, tokens.subspan(first, n), Feed::Want::all, span};
    const std::span<const float> logits = engine.run({&one, 1});
    all.insert(all.end(), logits.begin(), logits.end());
  };
  if (n_prompt > 0) feed(0, n_prompt, Feed::Span::prompt);
  for (std::size_t at = n_prompt; at < tokens.size(); at += piece) {
    feed(at, std::min(piece, tokens.size() - at), Feed::Span::generated);
  }
  return all;
}

/// Mean divergence of rows of logits, nats a token.
double divergence(const std::vector<float>& expected, const std::vector<float>& actual,
                  std::size_t n_tokens) {
  REQUIRE(expected.size() == actual.size());
  const std::size_t n_vocab = expected.size() / n_tokens;
  const auto log_sum = [&](const float* row) {
    const double largest = *std::max_element(row, row + n_vocab);
    double sum = 0;
    for (std::size_t i = 0; i < n_vocab; ++i) sum += std::exp(row[i] - largest);
    return largest + std::log(sum);
  };
  double total = 0;
  for (std::size_t t = 0; t < n_tokens; ++t) {
    const float *p = expected.data() + t * n_vocab, *q = actual.data() + t * n_vocab;
    const double p_sum = log_sum(p), q_sum = log_sum(q);
    for (std::size_t i = 0; i < n_vocab; ++i) {
      total += std::exp(p[i] - p_sum) * ((p[i] - p_sum) - (q[i] - q_sum));
    }
  }
  return total / static_cast<double>(n_tokens);
}

/// Logits of every generated token of several sessions side by side, a token of each a step, in an engine
/// that may have run others.
/// @param prompts  tokens of each that are read as text first
std::vector<std::vector<float>> decode_together(Engine& engine, std::span<const TokenId> tokens,
                                                std::span<const std::size_t> prompts,
                                                std::size_t n_generated) {
  std::vector<Session> sessions;
  for (const std::size_t n : prompts) {
    sessions.emplace_back(engine);
    const Feed text{&sessions.back(), tokens.first(n), Feed::Want::none, Feed::Span::prompt};
    engine.run({&text, 1});
  }
  std::vector<std::vector<float>> logits(prompts.size());
  for (std::size_t t = 0; t < n_generated; ++t) {
    std::vector<Feed> feeds;
    for (std::size_t s = 0; s < prompts.size(); ++s) {
      feeds.push_back(
          {&sessions[s], tokens.subspan(prompts[s] + t, 1), Feed::Want::last, Feed::Span::generated});
    }
    const std::span<const float> rows = engine.run(feeds);
    const std::size_t n_vocab = rows.size() / prompts.size();
    for (std::size_t s = 0; s < prompts.size(); ++s) {
      const auto row = rows.subspan(s * n_vocab, n_vocab);
      logits[s].insert(logits[s].end(), row.begin(), row.end());
    }
  }
  return logits;
}

/// Steps of one token a session, in an engine that has never seen their like, that records them, and that has
/// recorded them, beside steps of two tokens of one session, which are never recorded.
void require_started_alike(std::int32_t residents, const std::vector<std::size_t>& prompts,
                           std::size_t n_generated) {
  const std::vector<TokenId> tokens =
      random_text(*std::max_element(prompts.begin(), prompts.end()) + n_generated);
  EngineOptions alone = tiny("cuda");
  alone.kv_residents = residents;
  std::vector<std::vector<float>> expected;
  for (const std::size_t n : prompts) {
    const std::vector<float> all = logits_of(alone, std::span(tokens).first(n + n_generated), n, 2);
    const std::size_t n_vocab = all.size() / (n + n_generated);
    expected.emplace_back(all.end() - static_cast<std::ptrdiff_t>(n_generated * n_vocab), all.end());
  }
  EngineOptions together = alone;
  together.n_sequences = static_cast<std::int32_t>(prompts.size());
  Engine engine(together);
  for (int round = 0; round < 3; ++round) {
    const auto found = decode_together(engine, tokens, prompts, n_generated);
    for (std::size_t s = 0; s < prompts.size(); ++s) {
      const auto differs = std::mismatch(found[s].begin(), found[s].end(), expected[s].begin()).first;
      const auto n_alike = static_cast<std::size_t>(differs - found[s].begin());
      const std::size_t at = n_alike * n_generated / found[s].size();
      INFO(residents << " residents, round " << round << ", session " << s << " of " << prompts.size()
                     << ": alike up to token " << at);
      CHECK(at == n_generated);
    }
  }
}

}  // namespace

TEST_CASE("on a GPU, too, a session's next logits depend on its text, spans and settings alone", "[gpu]") {
  if (!gpu()) return;
  require_purity("cuda", 12);
}

TEST_CASE("on a GPU, too, an engine does not wear out", "[gpu]") {
  if (!gpu()) return;
  require_no_wear("cuda");
}

TEST_CASE("on a GPU, residents and pieces change no logit", "[gpu]") {
  if (!gpu()) return;
  const std::vector<TokenId> tokens = random_text(500);
  for (const KvSelect select : {KvSelect::all, KvSelect::index, KvSelect::oracle}) {
    std::vector<float> expected;
    for (const std::int32_t residents : {768, 128, 0}) {
      EngineOptions with = tiny("cuda");
      with.kv_select = select;
      with.kv_residents = residents;
      for (const std::size_t piece : {std::size_t{1}, std::size_t{40}, std::size_t{200}}) {
        if (residents == 128 && piece == 200) continue;
        INFO("selection " << static_cast<int>(select) << ", " << residents << " residents, pieces of "
                          << piece);
        const std::vector<float> found = logits_of(with, tokens, 300, piece);
        if (expected.empty()) expected = found;
        CHECK(found == expected);
      }
    }
  }
}

TEST_CASE("on a GPU, a token's logits do not depend on how its step was started", "[gpu]") {
  if (!gpu()) return;
  // Far enough for choices, for pages that leave the window, and for twice as many positions, twice.
  for (const std::int32_t residents : {256, 0}) {
    require_started_alike(residents, {200}, 330);
    require_started_alike(residents, {200, 130, 40}, 330);
  }
}

TEST_CASE("on a GPU, few tokens' logits do not depend on how their steps were started", "[gpu]") {
  if (!gpu()) return;
  require_started_alike(256, {250, 20}, 12);  // for sanitizers
}

TEST_CASE("on a GPU, a compact cache gives the logits of the scalar backend", "[gpu]") {
  if (!gpu()) return;
  const std::vector<TokenId> tokens = random_text(600);
  for (const bool exact : {true, false}) {
    for (const KvSelect select : {KvSelect::all, KvSelect::index, KvSelect::oracle}) {
      EngineOptions oracle = tiny("scalar"), on_gpu = tiny("cuda");
      oracle.kv_select = on_gpu.kv_select = select;
      oracle.exact = on_gpu.exact = exact;
      const double kl =
          divergence(logits_of(oracle, tokens, 300, 64), logits_of(on_gpu, tokens, 300, 1), tokens.size());
      std::cout << (exact ? "exact" : "fast") << ", selection " << static_cast<int>(select) << ": mean KL "
                << kl << "\n";
      INFO("selection " << static_cast<int>(select) << (exact ? ", exact" : ""));
      // Measured on an H200: 6e-4 exact and 1.2e-3 fast where all is read. By the index, 6e-3 and 3e-2: of
      // this tiny model, whose sidecar is coarse, close choices fall the other way, and other units are read.
      // By the oracle 3e-3, since what was chosen decides what adapters, strong here, add; the CPU's backend
      // is at 7e-3.
      CHECK(kl <= (select == KvSelect::index    ? 6e-2
                   : select == KvSelect::oracle ? 1e-2
                   : exact                      ? 1.5e-3
                                                : 3e-3));
    }
  }
}

TEST_CASE("on a GPU, SmolLM2 under cga reads as on the CPU", "[gpu][checkpoint]") {
  if (!gpu()) return;
  const char* models = std::getenv("CGA_MODELS");
  const std::filesystem::path model =
      std::filesystem::path(models != nullptr ? models : "") / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (models == nullptr || !std::filesystem::exists(model)) {
    WARN("skipped: CGA_MODELS names no folder with SmolLM2-135M-Instruct.Q4_1.gguf");
    return;
  }
  const std::vector<TokenId> tokens = random_text(700);  // a vocabulary's first ids are as good as others
  const auto options = [&](const std::string& device) {
    EngineOptions result;
    result.model = model;
    result.sidecar = CGA_SOURCE "/models/SmolLM2-135M-Instruct.Q4_1.cga";
    result.device = device;
    result.kv = KvType::cga;
    result.n_ctx = 1024;
    result.n_threads = 8;
    result.kv_window = 64;
    result.kv_sparse_from = 128;
    result.kv_budget = 128;
    return result;
  };
  const double kl = divergence(logits_of(options("cpu"), tokens, 600, 50),
                               logits_of(options("cuda"), tokens, 600, 1), tokens.size());
  std::cout << "SmolLM2, CUDA beside CPU: mean KL " << kl << "\n";
  CHECK(kl <= 5e-3);
}

}  // namespace cga::test
