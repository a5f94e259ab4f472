// Choosing from the archive: what a query reads is a function of tokens, spans and settings. Chunking,
// neighbours, residents and going back leave no trace; a budget that covers the archive is reading it all.
#include <algorithm>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "runtime/random_text.h"
#include "runtime/refusal.h"
#include "support/catch.h"

namespace cga {
namespace {

using test::random_text;

/// The tiny model with window 64 and a random index: four units of sixteen tokens of what is older.
EngineOptions options(const std::string& device, const std::string& sidecar = "two") {
  EngineOptions result;
  result.model = CGA_VECTORS "/tiny/qwen2-mixed.gguf";
  result.device = device;
  result.n_ctx = 768;
  result.n_threads = 2;
  result.kv = KvType::cga;
  result.sidecar = CGA_VECTORS "/index/" + sidecar + ".cga";
  result.kv_window = 64;
  result.kv_sparse_from = 0;
  result.kv_budget = 64;
  return result;
}

std::vector<float> feed(Engine& engine, Session& session, std::span<const TokenId> tokens,
                        Feed::Span span = Feed::Span::generated, Feed::Want want = Feed::Want::all) {
  const Feed one{&session, tokens, want, span};
  const std::span<const float> logits = engine.run({&one, 1});
  return {logits.begin(), logits.end()};
}

/// A prompt of 300 tokens, then the rest in pieces of the given sizes in turn: logits of the rest.
std::vector<float> run(Engine& engine, Session& session, std::span<const TokenId> tokens,
                       const std::vector<std::size_t>& sizes) {
  feed(engine, session, tokens.first(300), Feed::Span::prompt, Feed::Want::none);
  std::vector<float> all;
  for (std::size_t at = 300, i = 0; at < tokens.size(); ++i) {
    const std::size_t n = std::min(sizes[i % sizes.size()], tokens.size() - at);
    const std::vector<float> rows = feed(engine, session, tokens.subspan(at, n));
    all.insert(all.end(), rows.begin(), rows.end());
    at += n;
  }
  return all;
}

std::vector<float> run(const EngineOptions& some, std::span<const TokenId> tokens,
                       const std::vector<std::size_t>& sizes) {
  Engine engine(some);
  Session session(engine);
  return run(engine, session, tokens, sizes);
}

TEST_CASE("with the index, pieces and residents change no logit, however many tokens share a choice") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::string sidecar = GENERATE("one", "two", "adapted");
  const std::vector<TokenId> tokens = random_text(470);
  for (const std::int32_t refresh : {1, 4, 64}) {
    EngineOptions some = options(device, sidecar);
    some.kv_refresh = refresh;
    some.kv_residents = 768;
    const std::vector<float> expected = run(some, tokens, {170});
    for (const std::int32_t residents : {0, 64, 192, 768}) {
      some.kv_residents = residents;
      for (const auto& sizes : {std::vector<std::size_t>{1}, {7, 64, 1}}) {
        INFO(residents << " residents, a choice every " << refresh << " tokens, " << sidecar << " on "
                       << device);
        CHECK((run(some, tokens, sizes) == expected));
      }
    }
  }
}

TEST_CASE("adapters work where something is left unread, and nowhere else") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(470);
  // The same index, with and without adapters.
  EngineOptions without = options(device, "two"), with = options(device, "adapted");
  CHECK_FALSE(run(with, tokens, {170}) == run(without, tokens, {170}));
  without.kv_budget = with.kv_budget = 768;
  CHECK((run(with, tokens, {170}) == run(without, tokens, {170})));
  without.kv_select = with.kv_select = KvSelect::all;
  CHECK((run(with, tokens, {170}) == run(without, tokens, {170})));
}

TEST_CASE("a budget that covers the archive reads it all; a smaller one does not") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(420);
  EngineOptions some = options(device);
  some.kv_select = KvSelect::all;
  const std::vector<float> all = run(some, tokens, {50});
  for (const KvSelect select : {KvSelect::index, KvSelect::oracle}) {
    some.kv_select = select;
    some.kv_budget = 768;
    CHECK((run(some, tokens, {50}) == all));
    some.kv_budget = 64;
    CHECK((run(some, tokens, {50}) != all));
  }
}

double squared_distance(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
  return sum;
}

TEST_CASE("an oracle's choice is nearer to reading everything than a random index's, and pure too") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(420);
  EngineOptions some = options(device);
  some.kv_select = KvSelect::all;
  const std::vector<float> all = run(some, tokens, {50});
  some.kv_select = KvSelect::index;
  const double index = squared_distance(run(some, tokens, {50}), all);
  some.kv_select = KvSelect::oracle;
  const std::vector<float> oracle = run(some, tokens, {50});
  CHECK(squared_distance(oracle, all) < 0.5 * index);
  some.kv_residents = 64;
  CHECK(run(some, tokens, {1, 9}) == oracle);
}

TEST_CASE("sequences that choose in one batch get what each gets alone") {
  const std::string device = GENERATE("scalar", "cpu");
  EngineOptions both = options(device);
  both.n_sequences = 3;
  both.kv_residents = 64;
  both.kv_refresh = 4;
  Engine engine(both);
  const std::vector<std::vector<TokenId>> texts{random_text(400, 1), random_text(129, 2),
                                                random_text(270, 3)};
  std::vector<float> expected;
  for (const auto& tokens : texts) {
    Session session(engine);
    feed(engine, session, std::span(tokens).first(tokens.size() - 5), Feed::Span::prompt, Feed::Want::none);
    const std::vector<float> rows = feed(engine, session, std::span(tokens).last(5));
    expected.insert(expected.end(), rows.begin(), rows.end());
  }
  std::vector<Session> sessions;
  for (std::size_t i = 0; i < texts.size(); ++i) sessions.emplace_back(engine);
  std::vector<Feed> prompts, rests;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::span<const TokenId> tokens = texts[i];
    prompts.push_back({&sessions[i], tokens.first(tokens.size() - 5), Feed::Want::none});
    rests.push_back({&sessions[i], tokens.last(5), Feed::Want::all, Feed::Span::generated});
  }
  engine.run(prompts);
  const std::span<const float> logits = engine.run(rests);
  CHECK((std::vector<float>(logits.begin(), logits.end()) == expected));
}

TEST_CASE("going back where tokens share a choice, or hold on to one, leaves no trace") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(420), other = random_text(60, 9);
  EngineOptions some = options(device);
  some.kv_refresh = GENERATE(1, 16);
  some.kv_inertia = GENERATE(0.0f, 0.5f);
  Engine engine(some);
  for (const std::int32_t back : {419, 400, 389, 310, 303, 300, 250}) {
    INFO("back to " << back << " on " << device);
    const auto kept = std::span(tokens).first(static_cast<std::size_t>(back));
    std::vector<float> expected;
    {
      Session fresh(engine);
      feed(engine, fresh, kept.first(std::min<std::size_t>(kept.size(), 300)), Feed::Span::prompt);
      if (kept.size() > 300) feed(engine, fresh, kept.subspan(300));
      expected = feed(engine, fresh, other);
    }
    Session session(engine);
    run(engine, session, tokens, {120});
    session.truncate(back);
    CHECK((feed(engine, session, other) == expected));
  }
}

TEST_CASE("residents save decoding: what was read a moment ago is not decoded again") {
  EngineOptions some = options("cpu");
  const std::vector<TokenId> tokens = random_text(450);
  std::vector<std::int64_t> decoded;
  for (const std::int32_t residents : {0, 64, 768}) {
    some.kv_residents = residents;
    Engine engine(some);
    Session session(engine);
    run(engine, session, tokens, {1});
    const KvReuse reuse = engine.kv_reuse();
    CHECK(reuse.choices == 150 * 2);  // tokens, times anchors
    CHECK(reuse.chosen == reuse.choices * 4);
    CHECK(reuse.needed == reuse.chosen);  // one token a step
    CHECK(reuse.eligible > reuse.chosen);
    CHECK(reuse.decoded_bytes > 0);
    CHECK(reuse.index_bytes > 0);
    decoded.push_back(reuse.decoded);
  }
  CHECK(decoded[0] == 150 * 2 * 4);
  CHECK(decoded[1] < decoded[0]);
  CHECK(decoded[2] < decoded[1]);
  CHECK(decoded[2] <= 2 * 4 * 6);  // every unit of six pages once for each anchor
}

TEST_CASE("a choice that holds on to the one before it decodes less") {
  const std::vector<TokenId> tokens = random_text(450);
  EngineOptions some = options("cpu");
  some.kv_residents = 64;
  std::vector<std::int64_t> decoded;
  std::vector<std::vector<float>> logits;
  for (const float inertia : {0.0f, 0.5f, 100.0f}) {
    some.kv_inertia = inertia;
    Engine engine(some);
    Session session(engine);
    logits.push_back(run(engine, session, tokens, {1}));
    CHECK(engine.kv_reuse().chosen == engine.kv_reuse().choices * 4);
    decoded.push_back(engine.kv_reuse().decoded);
  }
  CHECK(decoded[1] < decoded[0]);
  CHECK(decoded[2] < decoded[1]);
  CHECK(decoded[2] <= 4 * 2 * (1 + 150 / 16 + 1));  // nothing but what is chosen afresh
  CHECK((logits[0] != logits[2]));
}

TEST_CASE("by need, queries read more and less than the budget, and it can be switched off") {
  const std::vector<TokenId> tokens = random_text(500);
  EngineOptions some = options("cpu", "adapted");
  std::vector<std::int64_t> chosen;
  for (const std::int32_t by_need : {-1, 1, 0}) {
    some.kv_by_need = by_need;
    Engine engine(some);
    CHECK(engine.options().kv_by_need == (by_need != 0 ? 1 : 0));
    Session session(engine);
    run(engine, session, tokens, {1});
    const KvReuse reuse = engine.kv_reuse();
    CHECK(reuse.choices == 200 * 2);
    CHECK(reuse.chosen >= reuse.choices * 1);  // a quarter of four units
    CHECK(reuse.chosen <= reuse.choices * 12);
    chosen.push_back(reuse.chosen);
  }
  CHECK(chosen[0] == chosen[1]);
  CHECK(chosen[0] != chosen[2]);
  CHECK(chosen[2] == 200 * 2 * 4);
  some = options("cpu", "two");
  some.kv_by_need = 1;
  CHECK(test::refusal_of(some).find("--kv-by-need on: there is no index that knows") != std::string::npos);
}

TEST_CASE("by need, a budget that covers the archive is reading it all") {
  const std::vector<TokenId> tokens = random_text(500);
  EngineOptions by_need = options("cpu", "adapted"), all = by_need;
  by_need.kv_budget = 768;
  all.kv_select = KvSelect::all;
  CHECK((run(by_need, tokens, {1, 7}) == run(all, tokens, {3})));
}

TEST_CASE("settings of choosing come from the sidecar, and what is impossible is refused by name") {
  EngineOptions plain = options("cpu");
  plain.kv_budget = -1;
  const Engine engine(plain);
  CHECK(engine.options().kv_select == KvSelect::index);
  CHECK(engine.options().kv_budget == 64);
  CHECK(engine.options().kv_residents == 256);
  CHECK(engine.options().kv_refresh == 1);
  CHECK(engine.options().kv_inertia == 0.5f);
  CHECK(engine.plan().kv_index > 0);
  CHECK(engine.kv_usage(768).total() == engine.plan().kv);

  EngineOptions wrong = options("cpu");
  wrong.kv_budget = 70;
  CHECK(test::refusal_of(wrong).find("--kv-budget: found 70, expected a multiple of 16") !=
        std::string::npos);
  wrong = options("cpu");
  wrong.kv_refresh = 3;
  CHECK(test::refusal_of(wrong).find("--kv-refresh: found 3") != std::string::npos);
  wrong = options("cpu");
  wrong.sidecar = CGA_VECTORS "/codec/qwen2-mixed.cga";
  wrong.kv_select = KvSelect::index;
  CHECK(test::refusal_of(wrong).find("has no index") != std::string::npos);
}

}  // namespace
}  // namespace cga
