// Text that follows later, and going back: it reads what came before whole, however it is cut into batches;
// a mark makes going back free and leaves no trace.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "runtime/random_text.h"
#include "support/catch.h"

namespace cga {
namespace {

using test::random_text;

EngineOptions options(const std::string& device) {
  EngineOptions result;
  result.model = CGA_VECTORS "/tiny/qwen2-mixed.gguf";
  result.device = device;
  result.n_ctx = 768;
  result.n_threads = 2;
  result.kv = KvType::cga;
  result.sidecar = CGA_VECTORS "/index/two.cga";
  result.kv_window = 64;
  result.kv_sparse_from = 0;
  result.kv_budget = 64;
  result.kv_followup_from = 40;
  return result;
}

std::vector<float> feed(Engine& engine, Session& session, std::span<const TokenId> tokens, Feed::Span span,
                        Feed::Want want = Feed::Want::all) {
  const Feed one{&session, tokens, want, span};
  const std::span<const float> logits = engine.run({&one, 1});
  return {logits.begin(), logits.end()};
}
std::vector<float> read(Engine& engine, Session& session, std::span<const TokenId> tokens) {
  return feed(engine, session, tokens, Feed::Span::prompt);
}
std::vector<float> generate(Engine& engine, Session& session, std::span<const TokenId> tokens) {
  return feed(engine, session, tokens, Feed::Span::generated);
}

/// The median of the relative distances (L2) between the first n_rows of two sets of 60 rows.
double typical_distance(const std::vector<float>& found, const std::vector<float>& expected,
                        std::size_t n_rows) {
  const std::size_t n_vocab = found.size() / 60;
  std::vector<double> distances;
  for (std::size_t row = 0; row < n_rows; ++row) {
    double difference = 0, norm = 0;
    for (std::size_t i = row * n_vocab; i < (row + 1) * n_vocab; ++i) {
      difference += (double{found[i]} - expected[i]) * (double{found[i]} - expected[i]);
      norm += double{expected[i]} * expected[i];
    }
    distances.push_back(std::sqrt(difference / norm));
  }
  std::nth_element(distances.begin(), distances.begin() + distances.size() / 2, distances.end());
  return distances[distances.size() / 2];
}

TEST_CASE("later text reads everything: its first logits are those of a query that reads all") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(400);
  EngineOptions all = options(device), chosen = options(device);
  all.kv_select = KvSelect::all;
  Engine a(all), b(chosen);
  Session reads_all(a), chooses(b);
  const auto prompt = std::span(tokens).first(333), rest = std::span(tokens).subspan(333, 60);
  for (const auto& [engine, session] : {std::pair(&a, &reads_all), {&b, &chooses}})
    read(*engine, *session, prompt);
  const std::vector<float> expected = generate(a, reads_all, rest);
  const std::vector<float> other = generate(b, chooses, rest);
  chooses.truncate(0);
  read(b, chooses, prompt);
  const std::vector<float> found = read(b, chooses, rest);
  // Until a page boundary (384) both read the same pages exactly. What text reads decoded is in bf16,
  // residents are in int8: that is what is left, and a row whose scores are close may fall either way.
  CHECK(typical_distance(found, expected, 51) < 0.03);
  CHECK(typical_distance(other, expected, 51) > 0.1);
}

TEST_CASE("later text gives the same logits whatever the batch size and residents") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(600);
  std::vector<float> expected;
  for (const std::int32_t n_ubatch : {512, 33, 64}) {
    EngineOptions some = options(device);
    some.n_ubatch = n_ubatch;
    some.kv_residents = n_ubatch;
    Engine engine(some);
    Session session(engine);
    read(engine, session, std::span(tokens).first(250));
    std::vector<float> found = read(engine, session, std::span(tokens).subspan(250, 200));  // pages leave
    const std::vector<float> more = generate(engine, session, std::span(tokens).subspan(450, 30));
    const std::vector<float> again = read(engine, session, std::span(tokens).subspan(480));
    found.insert(found.end(), more.begin(), more.end());
    found.insert(found.end(), again.begin(), again.end());
    if (expected.empty()) expected = found;
    CHECK((found == expected));
  }
}

TEST_CASE("short later text is read as generated text is") {
  const std::vector<TokenId> tokens = random_text(400);
  Engine engine(options("cpu"));
  std::vector<std::vector<float>> found;
  for (const auto& span : {Feed::Span::prompt, Feed::Span::generated}) {
    Session session(engine);
    read(engine, session, std::span(tokens).first(300));
    found.push_back(feed(engine, session, std::span(tokens).subspan(300, 39), span));
  }
  CHECK((found[0] == found[1]));
}

TEST_CASE("going back through spans, marked or not, leaves no trace") {
  const std::string device = GENERATE("scalar", "cpu");
  const bool marks = GENERATE(false, true);
  const std::vector<TokenId> tokens = random_text(500), other = random_text(70, 9);
  EngineOptions some = options(device);
  some.keeps_marked = marks;
  some.kv_refresh = 4;
  some.kv_followup_from = 1;  // so that a text that is cut is still one
  Engine engine(some);
  const std::span<const TokenId> all = tokens;
  // 250 read, 30 generated, 60 read, 20 marked and generated, 70 read, 70 generated
  const auto replay = [&](Session& session, std::size_t n) {
    std::size_t at = 0;
    for (const auto& [size, span] : {std::pair<std::size_t, Feed::Span>{250, Feed::Span::prompt},
                                     {30, Feed::Span::generated},
                                     {60, Feed::Span::prompt},
                                     {20, Feed::Span::generated},
                                     {70, Feed::Span::prompt},
                                     {70, Feed::Span::generated}}) {
      if (at == 340) session.mark();
      const std::size_t end = std::min(at + size, n);
      if (at < end) feed(engine, session, all.subspan(at, end - at), span, Feed::Want::none);
      at = std::max(at, end);
    }
  };
  for (const std::int32_t back : {499, 430, 402, 360, 345, 340, 300, 265, 100}) {
    INFO("back to " << back << " on " << device << (marks ? ", marked" : ""));
    std::vector<float> expected;
    {
      Session fresh(engine);
      replay(fresh, static_cast<std::size_t>(back));
      expected = generate(engine, fresh, other);
    }
    Session session(engine);
    replay(session, 500);
    session.truncate(back);
    const std::vector<float> found = generate(engine, session, other);
    CHECK((found == expected));
  }
}

TEST_CASE("later text that is stopped leaves a marked session as it was, and another one empty") {
  const bool marks = GENERATE(false, true);
  const std::vector<TokenId> tokens = random_text(500), other = random_text(50, 9);
  EngineOptions some = options("cpu");
  some.keeps_marked = marks;
  Engine engine(some);
  std::vector<float> expected;
  {
    Session session(engine);
    read(engine, session, std::span(tokens).first(300));
    expected = generate(engine, session, other);
  }
  Session session(engine);
  read(engine, session, std::span(tokens).first(300));
  session.mark();
  const Feed text{&session, std::span(tokens).subspan(300), Feed::Want::last};
  CHECK(engine.run({&text, 1}, [](std::int64_t) { return false; }).empty());
  CHECK(session.n_past() == (marks ? 300 : 0));
  if (!marks) read(engine, session, std::span(tokens).first(300));
  CHECK((generate(engine, session, other) == expected));
}

}  // namespace
}  // namespace cga
