// Caches of q8 and q4 blocks in the engine: how text is cut, going back and neighbours leave no trace, as
// with any other cache; and they stay as near to bf16 as their bits allow.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "runtime/random_text.h"
#include "support/catch.h"

namespace cga {
namespace {

Engine open(const std::string& device, KvType kv) {
  EngineOptions options;
  options.model = CGA_VECTORS "/tiny/qwen2-mixed.gguf";
  options.device = device;
  options.n_ctx = 256;
  options.n_sequences = 2;
  options.n_threads = 2;
  options.kv = kv;
  return Engine(options);
}

using test::random_text;

/// Logits of all tokens, `step` of them at once.
std::vector<float> feed(Engine& engine, Session& session, std::span<const TokenId> tokens, std::size_t step) {
  std::vector<float> all;
  for (std::size_t at = 0; at < tokens.size(); at += step) {
    const Feed one{&session, tokens.subspan(at, std::min(step, tokens.size() - at)), Feed::Want::all};
    const std::span<const float> rows = engine.run({&one, 1});
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

/// Mean over rows of KL(a || b).
double divergence(const std::vector<float>& a, const std::vector<float>& b, std::size_t n_vocab) {
  REQUIRE(a.size() == b.size());
  const auto log_sum = [&](const std::vector<float>& x, std::size_t row) {
    double sum = 0;
    for (std::size_t i = row; i < row + n_vocab; ++i) sum += std::exp(double{x[i]});
    return std::log(sum);
  };
  double total = 0;
  for (std::size_t row = 0; row < a.size(); row += n_vocab) {
    const double sum_a = log_sum(a, row), sum_b = log_sum(b, row);
    for (std::size_t i = row; i < row + n_vocab; ++i) {
      total += std::exp(a[i] - sum_a) * ((a[i] - sum_a) - (b[i] - sum_b));
    }
  }
  const std::size_t n_rows = a.size() / n_vocab;
  return total / static_cast<double>(n_rows);
}

TEST_CASE("over blocks, how a text is cut and going back leave no trace", "[kv_blocks]") {
  for (const std::string device : {"cpu", "scalar"}) {
    for (const KvType kv : {KvType::q8, KvType::q4}) {
      CAPTURE(device, static_cast<int>(kv));
      Engine engine = open(device, kv);
      const std::vector<TokenId> tokens = random_text(150);
      Session whole(engine), cut(engine);
      const std::vector<float> expected = feed(engine, whole, tokens, 150);
      CHECK(feed(engine, cut, tokens, 1) == expected);
      cut.truncate(71);  // amid a page, and amid a byte that two tokens share
      feed(engine, cut, random_text(60, 2), 60);
      cut.truncate(71);
      const std::vector<float> again = feed(engine, cut, std::span(tokens).subspan(71), 50);
      const auto from = expected.end() - static_cast<std::ptrdiff_t>(again.size());
      CHECK(std::equal(again.begin(), again.end(), from, expected.end()));
    }
  }
}

TEST_CASE("over blocks, both backends are near each other, and q8 nearer to bf16 than q4", "[kv_blocks]") {
  const std::vector<TokenId> tokens = random_text(120);
  const auto logits = [&](const std::string& device, KvType kv) {
    Engine engine = open(device, kv);
    Session session(engine);
    return feed(engine, session, tokens, 120);
  };
  const std::vector<float> bf16 = logits("cpu", KvType::bf16), q8 = logits("cpu", KvType::q8),
                           q4 = logits("cpu", KvType::q4);
  const std::size_t n_vocab = bf16.size() / 120;
  const double q8_cost = divergence(bf16, q8, n_vocab), q4_cost = divergence(bf16, q4, n_vocab);
  CAPTURE(q8_cost, q4_cost);
  CHECK(q8_cost > 0);
  CHECK(q8_cost < 1e-3);
  CHECK(q4_cost > 4 * q8_cost);
  CHECK(q4_cost < 5e-2);
  CHECK(divergence(q8, logits("scalar", KvType::q8), n_vocab) < 1e-3);
  CHECK(divergence(q4, logits("scalar", KvType::q4), n_vocab) < q4_cost);
}

}  // namespace
}  // namespace cga
