// Generation under Compact Grouped Attention: what a query reads is a function of tokens, spans and settings.
// Chunking, neighbours, residents and going back leave no trace; prompts and short contexts are exact.
#include <hwy/targets.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "runtime/random_text.h"
#include "runtime/refusal.h"
#include "support/catch.h"

namespace cga {
namespace {

constexpr std::int32_t window = 64;

EngineOptions options(const std::string& device, KvType kv = KvType::cga) {
  EngineOptions result;
  result.model = CGA_VECTORS "/tiny/qwen2-mixed.gguf";
  result.device = device;
  result.n_ctx = 768;
  result.n_threads = 2;
  result.kv = kv;
  if (kv != KvType::cga) return result;
  result.sidecar = CGA_VECTORS "/codec/qwen2-mixed.cga";
  result.kv_window = window;
  result.kv_sparse_from = 0;
  return result;
}

using test::random_text;

std::vector<float> feed(Engine& engine, Session& session, std::span<const TokenId> tokens, Feed::Span span,
                        Feed::Want want = Feed::Want::all) {
  const Feed one{&session, tokens, want, span};
  const std::span<const float> logits = engine.run({&one, 1});
  return {logits.begin(), logits.end()};
}

/// Logits of all tokens, fed in pieces of the given sizes in turn as generated text.
std::vector<float> feed_in_pieces(Engine& engine, Session& session, std::span<const TokenId> tokens,
                                  const std::vector<std::size_t>& sizes) {
  std::vector<float> all;
  for (std::size_t at = 0, i = 0; at < tokens.size(); ++i) {
    const std::size_t n = std::min(sizes[i % sizes.size()], tokens.size() - at);
    const std::vector<float> rows = feed(engine, session, tokens.subspan(at, n), Feed::Span::generated);
    all.insert(all.end(), rows.begin(), rows.end());
    at += n;
  }
  return all;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(double{a[i]} - b[i]));
  return largest;
}

TEST_CASE("a prompt reads itself exactly, however long, and what follows reads codes") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(330);
  const auto prompt = std::span(tokens).first(300), rest = std::span(tokens).subspan(300);
  Engine dense(options(device, KvType::bf16)), compact(options(device));
  Session a(dense), b(compact);
  CHECK(feed(dense, a, prompt, Feed::Span::prompt) == feed(compact, b, prompt, Feed::Span::prompt));
  const double difference = largest_difference(feed(dense, a, rest, Feed::Span::generated),
                                               feed(compact, b, rest, Feed::Span::generated));
  CHECK(difference > 1e-3);  // the sidecar's transform is random: its codes are far from exact
}

TEST_CASE("contexts up to sparse-from stay exact, and the archive begins right after") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(400);
  EngineOptions late = options(device);
  late.kv_sparse_from = 256;
  Engine dense(options(device, KvType::bf16)), compact(late);
  Session a(dense), b(compact);
  const auto first = std::span(tokens).first(256), rest = std::span(tokens).subspan(256);
  CHECK(feed(dense, a, first, Feed::Span::generated) == feed_in_pieces(compact, b, first, {100, 1}));
  const std::vector<float> expected = feed(dense, a, rest, Feed::Span::generated);
  const std::vector<float> found = feed(compact, b, rest, Feed::Span::generated);
  const std::size_t n_vocab = expected.size() / rest.size();
  CHECK(!std::equal(found.begin(), found.begin() + static_cast<std::ptrdiff_t>(n_vocab), expected.begin()));
}

TEST_CASE("generated text gives the same logits however it is cut, bit for bit") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(333);
  EngineOptions late = options(device);
  late.kv_sparse_from = GENERATE(0, 192);
  Engine engine(late);
  std::vector<float> whole;
  {
    Session session(engine);
    whole = feed_in_pieces(engine, session, tokens, {tokens.size()});
  }
  for (const auto& sizes : {std::vector<std::size_t>{64}, {1}, {7, 130, 1}}) {
    Session session(engine);
    CHECK(largest_difference(whole, feed_in_pieces(engine, session, tokens, sizes)) == 0);
  }
}

TEST_CASE("residents change no logit") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(500);
  const auto prompt = std::span(tokens).first(400), rest = std::span(tokens).subspan(400);
  std::vector<float> expected;
  for (const std::int32_t residents : {768, 128, 64, 0}) {
    INFO(residents << " residents on " << device);
    EngineOptions some = options(device);
    some.kv_residents = residents;
    Engine engine(some);
    Session session(engine);
    feed(engine, session, prompt, Feed::Span::prompt, Feed::Want::none);
    const std::vector<float> found = feed_in_pieces(engine, session, rest, {1, 40});
    if (expected.empty()) expected = found;
    CHECK(found == expected);
    // A page of 64 exact tokens holds 128 residents; a scale of 2 bytes beside 64 codes is 1/32 more.
    const std::int64_t page = engine.kv_usage(64).bf16;
    CHECK(engine.kv_usage(500).residents <= (residents + 127) / 128 * (page + page / 32));
  }
}

TEST_CASE("sequences in one batch give what each gives alone") {
  const std::string device = GENERATE("scalar", "cpu");
  EngineOptions both = options(device);
  both.n_sequences = 3;
  both.kv_residents = 64;
  Engine engine(both);
  const std::vector<std::vector<TokenId>> texts{random_text(400, 1), random_text(129, 2),
                                                random_text(270, 3)};
  std::vector<std::vector<float>> alone;
  for (const auto& tokens : texts) {
    Session session(engine);
    feed(engine, session, std::span(tokens).first(tokens.size() - 5), Feed::Span::prompt, Feed::Want::none);
    alone.push_back(feed(engine, session, std::span(tokens).last(5), Feed::Span::generated));
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
  std::vector<float> expected;
  for (const auto& rows : alone) expected.insert(expected.end(), rows.begin(), rows.end());
  CHECK(std::vector<float>(logits.begin(), logits.end()) == expected);
}

TEST_CASE("going back, even to where tokens were coded, leaves no trace") {
  const std::string device = GENERATE("scalar", "cpu");
  const std::vector<TokenId> tokens = random_text(420), other = random_text(60, 9);
  Engine engine(options(device));
  for (const std::int32_t back : {419, 400, 310, 250, 70, 3, 0}) {  // in the window, past it, in the prompt
    INFO("back to " << back << " on " << device);
    const auto kept = std::span(tokens).first(static_cast<std::size_t>(back));
    const auto prompt = kept.first(std::min<std::size_t>(kept.size(), 300));
    std::vector<float> expected;
    {
      Session fresh(engine);
      if (!prompt.empty()) feed(engine, fresh, prompt, Feed::Span::prompt);
      if (kept.size() > 300) feed(engine, fresh, kept.subspan(300), Feed::Span::generated);
      expected = feed(engine, fresh, other, Feed::Span::generated);
    }
    Session session(engine);
    feed(engine, session, std::span(tokens).first(300), Feed::Span::prompt);
    feed(engine, session, std::span(tokens).subspan(300), Feed::Span::generated);
    session.truncate(back);
    CHECK(session.n_past() == back);
    CHECK(std::equal(kept.begin(), kept.end(), session.tokens().begin(), session.tokens().end()));
    CHECK(feed(engine, session, other, Feed::Span::generated) == expected);
  }
}

TEST_CASE("a prompt that is stopped leaves its session empty and usable") {
  Engine engine(options("cpu"));
  Session session(engine);
  const std::vector<TokenId> tokens = random_text(300);
  const Feed prompt{&session, tokens, Feed::Want::last};
  std::int64_t seen = 0;
  const auto logits = engine.run({&prompt, 1}, [&](std::int64_t done) {
    seen = done;
    return false;
  });
  CHECK(logits.empty());
  CHECK(seen == 150);  // of 300, when the first of two groups is done
  CHECK(session.n_past() == 0);
  const std::vector<float> again = feed(engine, session, tokens, Feed::Span::prompt);
  Engine untouched(options("cpu"));
  Session fresh(untouched);
  CHECK(again == feed(untouched, fresh, tokens, Feed::Span::prompt));
}

TEST_CASE("both backends agree on what codes say") {
  const std::vector<TokenId> tokens = random_text(330);
  const auto logits = [&](const std::string& device, KvType kv) {
    Engine engine(options(device, kv));
    Session session(engine);
    return feed(engine, session, tokens, Feed::Span::generated);
  };
  const std::vector<float> expected = logits("scalar", KvType::cga);
  // The transform is random, and so is the model: what rounding to bytes changes is held against what the
  // codes change.
  const double of_codes = largest_difference(expected, logits("scalar", KvType::bf16));
  CHECK(largest_difference(expected, logits("cpu", KvType::cga)) < 0.25 * of_codes);
  hwy::DisableTargets(HWY_AVX3_DL);  // the instruction set that multiplies bytes
  CHECK(largest_difference(expected, logits("cpu", KvType::cga)) < 0.2);
  hwy::DisableTargets(0);
}

TEST_CASE("settings come from the sidecar, and what is impossible is refused by name") {
  EngineOptions plain = options("cpu");
  plain.kv_window = plain.kv_sparse_from = -1;
  const Engine engine(plain);
  CHECK(engine.options().kv_bits == 1.5);
  CHECK(engine.options().kv_window == 64);
  CHECK(engine.options().kv_sparse_from == 128);

  EngineOptions wrong = options("cpu");
  wrong.kv_window = 100;
  CHECK(test::refusal_of(wrong).find("--kv-window: found 100, expected a multiple of 64") !=
        std::string::npos);
  wrong = options("cpu");
  wrong.sidecar = CGA_VECTORS "/codec/three-layers.cga";
  CHECK(test::refusal_of(wrong).find("does not belong to") != std::string::npos);
  wrong = options("cpu");
  wrong.sidecar.clear();
  CHECK(test::refusal_of(wrong).find("there is no sidecar") != std::string::npos);
  wrong.kv = KvType::bf16;
  CHECK(test::refusal_of(wrong).find("settings of cga beside another kind of cache") != std::string::npos);
}

TEST_CASE("what a cache takes is what was planned for it") {
  EngineOptions some = options("cpu");
  some.kv_residents = 128;
  const Engine engine(some);
  const MemoryPlan plan = plan_memory(some);
  CHECK(plan.kv == engine.plan().kv);
  CHECK(plan.total() == engine.plan().total());
  CHECK(plan.kv == plan.kv_exact + plan.kv_archive + plan.kv_residents + plan.kv_index);
  CHECK(engine.kv_usage(768).total() == plan.kv);
  const std::int64_t page = engine.kv_usage(64).bf16;
  // 768 tokens: 12 pages. A query at 768 reads exactly from (768 - 64) / 64 = page 11 on, and page 0.
  CHECK(plan.kv_exact == 2 * page);
  CHECK(plan.kv_residents == page + page / 32);  // 128 tokens in int8, heads of 64
  CHECK(plan.kv_bf16 == 12 * page);
  CHECK(plan.kv_archive < 11 * page / 10);  // 1.5 bits instead of 16
  CHECK(plan.kv_archive > 11 * page / 20);
}

}  // namespace
}  // namespace cga
