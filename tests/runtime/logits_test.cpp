// Is the engine right? Its logits beside those of Hugging Face transformers in fp32 on the same dequantised
// weights: random models small enough to check in, which reach every weight type and option, and the real
// checkpoints where they have been fetched. Scalar loops with an f32 cache must agree to rounding; SIMD with
// int16 activations and a bf16 cache may differ by what those cost.
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "runtime/reference_logits.h"
#include "support/catch.h"

namespace cga::test {
namespace {

constexpr double exact_divergence = 1e-6;  // scalar, f32 cache
constexpr double simd_divergence = 2e-3;   // SIMD, int16 activations, bf16 cache: mostly the cache's

const std::vector<std::string>& tiny_models() {
  static const std::vector<std::string> names{"llama-float", "llama-legacy", "llama-k", "qwen2-mixed"};
  return names;
}

std::filesystem::path vectors() {
  return CGA_VECTORS;
}

std::filesystem::path tiny_path(const std::string& name) {
  return vectors() / "tiny" / (name + ".gguf");
}

Reference reference_of(const std::string& name) {
  return read_reference(vectors() / "logits" / (name + ".logits"));
}

EngineOptions options(const std::filesystem::path& model, std::string_view device, KvType kv) {
  EngineOptions result;
  result.model = model;
  result.device = device;
  result.kv = kv;
  result.n_ctx = 256;
  return result;
}

/// Runs each text of the reference, at most `n_tokens` of it, in a session of its own.
Distance measure(Engine& engine, const Reference& reference, std::size_t n_texts, std::size_t n_tokens) {
  REQUIRE(engine.info().n_vocab == reference.n_vocab);
  Distance distance;
  for (std::size_t i = 0; i < std::min(n_texts, reference.texts.size()); ++i) {
    const ReferenceText& text = reference.texts[i];
    Session session(engine);
    const auto tokens = std::span(text.ids).first(std::min(n_tokens, text.ids.size()));
    const Feed feed{&session, tokens, Feed::Want::all};
    const std::span<const float> logits = engine.run({&feed, 1});
    REQUIRE(logits.size() == tokens.size() * static_cast<std::size_t>(reference.n_vocab));
    distance.add(reference, text, logits);
  }
  return distance;
}

/// Prints what was measured, which is worth more than that it passed, and requires the bound.
void require_within(const std::string& what, const Distance& distance, double bound) {
  std::cout << what << ": mean KL " << distance.mean_divergence() << ", max " << distance.max_divergence
            << ", max logit error " << distance.max_logit_error << ", " << distance.n_positions
            << " positions\n";
  INFO(what << ": mean KL " << distance.mean_divergence() << ", max " << distance.max_divergence);
  REQUIRE(distance.n_positions > 0);
  REQUIRE(distance.mean_divergence() <= bound);  // false for NaN
}

void check_tiny(std::string_view device, KvType kv, double bound, double logit_bound) {
  for (const std::string& name : tiny_models()) {
    Engine engine(options(tiny_path(name), device, kv));
    const Distance distance = measure(engine, reference_of(name), 1, 1000);
    const std::string cache = kv == KvType::f32 ? ", f32 cache" : ", bf16 cache";
    require_within(name + " on " + std::string(device) + cache, distance, bound);
    REQUIRE(distance.max_logit_error <= logit_bound);
  }
}

std::vector<float> run_all(Engine& engine, Session& session, std::span<const TokenId> tokens) {
  const Feed feed{&session, tokens, Feed::Want::all};
  const std::span<const float> logits = engine.run({&feed, 1});
  return {logits.begin(), logits.end()};
}

/// NaN if the sizes differ or any value is NaN.
double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = a.size() == b.size() ? 0.0 : std::nan("");
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::abs(double{a[i]} - b[i]);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

/// How far logits may move when a batch is cut differently.
double same_logit(const std::string&) {
  return 0.0;
}

/// A checkpoint's path, or an empty one (said aloud) where it was not fetched.
std::filesystem::path checkpoint(const std::string& name) {
  const char* folder = std::getenv("CGA_MODELS");
  const char* home = std::getenv("HOME");
  const std::filesystem::path models =
      folder != nullptr ? std::filesystem::path(folder)
                        : std::filesystem::path(home != nullptr ? home : "") / ".cache/cga/models";
  const std::filesystem::path path = models / (name + ".gguf");
  if (std::filesystem::exists(path)) return path;
  WARN("skipped: " << path.string() << " is not there");
  return {};
}

/// The first `n_texts` texts of a checkpoint's reference, at most `n_tokens` tokens of each.
void check_checkpoint(const std::string& name, std::string_view device, KvType kv, std::size_t n_texts,
                      std::size_t n_tokens, double bound) {
  const std::filesystem::path path = checkpoint(name);
  if (path.empty()) return;
  Engine engine(options(path, device, kv));
  const std::string cache = kv == KvType::f32 ? ", f32 cache" : ", bf16 cache";
  require_within(name + " on " + std::string(device) + cache,
                 measure(engine, reference_of(name), n_texts, n_tokens), bound);
}

}  // namespace

TEST_CASE("the divergence measures what it says", "[logits]") {
  const std::vector<float> p{std::log(0.5f), std::log(0.25f), std::log(0.25f)};
  const std::vector<float> q{std::log(0.25f) + 3, std::log(0.25f) + 3, std::log(0.5f) + 3};
  const double expected = 0.5 * std::log(2.0) + 0.25 * std::log(0.5);
  REQUIRE(divergence(p, p) == Approx(0.0).margin(1e-12));
  REQUIRE(divergence(p, q) == Approx(expected).epsilon(1e-6));

  // Outcomes 1 and 2 merged: 0.5 log(0.5/0.25) + 0.5 log(0.5/0.75), less than the whole.
  const std::vector<std::int32_t> top{0};
  const double merged = divergence(top, std::span(p).first(1), std::log(0.5f), q);
  REQUIRE(merged == Approx(0.5 * std::log(2.0) + 0.5 * std::log(0.5 / 0.75)).epsilon(1e-6));
  REQUIRE(merged < expected);

  // One logit in a position off by a fiftieth is seen by the exact bound.
  std::vector<float> off = p;
  off[0] += 0.02f;
  REQUIRE(divergence(p, off) > exact_divergence);
}

TEST_CASE("tiny models on the scalar backend agree with transformers to rounding", "[logits]") {
  check_tiny("scalar", KvType::f32, exact_divergence, 1e-3);
}

TEST_CASE("tiny models on the CPU backend agree within the error of int16 and bf16", "[logits]") {
  check_tiny("cpu", KvType::bf16, simd_divergence, 0.2);
}

TEST_CASE("logits do not depend on what runs beside a sequence, or how prompts are cut", "[logits]") {
  const std::string device = GENERATE("scalar", "cpu");
  for (const std::string& name : tiny_models()) {
    INFO(name << " on " << device);
    const Reference reference = reference_of(name);
    const std::span<const TokenId> a = reference.texts[0].ids;
    const std::span<const TokenId> b = a.subspan(5, 66), c = a.subspan(31, 1);

    std::vector<float> expected;
    Engine alone(options(tiny_path(name), device, KvType::bf16));
    for (const auto& tokens : {a, b, c}) {
      Session session(alone);
      const std::vector<float> rows = run_all(alone, session, tokens);
      expected.insert(expected.end(), rows.begin(), rows.end());
    }

    EngineOptions together = options(tiny_path(name), device, KvType::bf16);
    together.n_sequences = 3;
    together.n_ubatch = 7;
    Engine engine(together);
    Session first(engine), second(engine), third(engine);
    const Feed feeds[]{
        {&first, a, Feed::Want::all}, {&second, b, Feed::Want::all}, {&third, c, Feed::Want::all}};
    const std::span<const float> logits = engine.run(feeds);
    REQUIRE(largest_difference(logits, expected) <= same_logit(device));
  }
}

TEST_CASE("logits of single steps, after going back too, are those of the whole prompt", "[logits]") {
  const std::string device = GENERATE("scalar", "cpu");
  for (const std::string& name : tiny_models()) {
    INFO(name << " on " << device);
    const Reference reference = reference_of(name);
    const std::span<const TokenId> tokens = reference.texts[0].ids;
    const auto n_vocab = static_cast<std::size_t>(reference.n_vocab);
    Engine engine(options(tiny_path(name), device, KvType::bf16));
    Session session(engine);
    const std::vector<float> whole = run_all(engine, session, tokens);

    session.truncate(60);  // before the end of the first page
    for (std::size_t i = 60; i < tokens.size(); ++i) {
      const Feed feed{&session, tokens.subspan(i, 1), Feed::Want::last};
      const std::span<const float> row = engine.run({&feed, 1});
      REQUIRE(largest_difference(row, std::span(whole).subspan(i * n_vocab, n_vocab)) <= same_logit(device));
    }
  }
}

TEST_CASE("checkpoints on the CPU backend agree within the error of int16 and bf16", "[logits]") {
  check_checkpoint("SmolLM2-135M-Instruct.Q4_1", "cpu", KvType::bf16, 4, 1000, simd_divergence);
  check_checkpoint("Qwen2.5-Coder-0.5B-Instruct", "cpu", KvType::bf16, 4, 1000, simd_divergence);
  check_checkpoint("Qwen2.5-Coder-1.5B-Instruct", "cpu", KvType::bf16, 4, 48, simd_divergence);
}

TEST_CASE("checkpoints on the scalar backend agree with transformers to rounding", "[logits]") {
  check_checkpoint("SmolLM2-135M-Instruct.Q4_1", "scalar", KvType::f32, 1, 32, exact_divergence);
  check_checkpoint("Qwen2.5-Coder-0.5B-Instruct", "scalar", KvType::f32, 1, 8, exact_divergence);
}

TEST_CASE("whole texts on the scalar backend agree with transformers to rounding", "[.slow][logits]") {
  check_checkpoint("SmolLM2-135M-Instruct.Q4_1", "scalar", KvType::f32, 4, 1000, exact_divergence);
  check_checkpoint("Qwen2.5-Coder-0.5B-Instruct", "scalar", KvType::f32, 4, 64, exact_divergence);
  check_checkpoint("Qwen2.5-Coder-1.5B-Instruct", "scalar", KvType::f32, 1, 64, exact_divergence);
}

}  // namespace cga::test
