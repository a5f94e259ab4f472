// A shortlist gives the token that all logits give, with the same random numbers, or says that it cannot.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "cga/error.h"
#include "cga/sampling.h"
#include "runtime/plain_sampling.h"
#include "support/catch.h"
#include "support/shortlists.h"

using namespace cga;
using namespace cga::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// The k likeliest of a row, made here rather than by an op.
struct List {
  List(const std::vector<float>& logits, std::size_t k, double sum_error = 0) {
    for (std::size_t i = 0; i < logits.size(); ++i) all.push_back({static_cast<TokenId>(i), logits[i]});
    std::sort(all.begin(), all.end(), [](const Candidate& a, const Candidate& b) {
      return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    });
    double sum = 0;
    for (const Candidate& c : all) sum += std::exp(double{c.logit} - double{all[0].logit});
    list = {std::span(all).first(std::min(k, all.size())),
            {.sum = sum * (1 + sum_error), .first_invalid = -1},
            static_cast<std::int32_t>(logits.size())};
  }
  List(const List&) = delete;
  List& operator=(const List&) = delete;

  std::vector<Candidate> all;
  Shortlist list;
};

template <class T>
T any_of(std::mt19937& random, std::initializer_list<T> choices) {
  return choices.begin()[random() % choices.size()];
}

SamplingOptions any_options(std::mt19937& random) {
  SamplingOptions options;
  options.temperature = any_of(random, {0.0f, 0.1f, 0.8f, 1.0f, 5.0f});
  options.top_k = any_of(random, {0, 0, 1, 5, 40, 200, 10'000});
  options.top_p = any_of(random, {1.0f, 1.0f, 0.999f, 0.95f, 0.5f, 0.0f});
  options.min_p = any_of(random, {0.0f, 0.0f, 0.001f, 0.05f, 0.5f, 1.0f});
  options.repeat_penalty = any_of(random, {1.0f, 1.0f, 1.1f, 3.0f, 0.8f});
  options.presence_penalty = any_of(random, {0.0f, 0.0f, 0.5f, 20.0f, -0.5f});
  options.frequency_penalty = any_of(random, {0.0f, 0.0f, 0.5f, -0.1f});
  options.repeat_last_n = any_of(random, {-1, 0, 1, 8, 64});
  options.seed = random();
  return options;
}

bool may_raise(const SamplingOptions& o) {
  return o.repeat_penalty < 1 || o.presence_penalty < 0 || o.frequency_penalty < 0;
}

std::string text_of(const SamplingOptions& o) {
  return "temperature " + std::to_string(o.temperature) + ", top-k " + std::to_string(o.top_k) + ", top-p " +
         std::to_string(o.top_p) + ", min-p " + std::to_string(o.min_p) + ", penalties " +
         std::to_string(o.repeat_penalty) + " " + std::to_string(o.presence_penalty) + " " +
         std::to_string(o.frequency_penalty) + ", last " + std::to_string(o.repeat_last_n);
}

/// The error of a call; empty if there is none.
template <class Call>
std::string complaint(const Call& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("whatever the options, a shortlist that decides gives what all logits give", "[shortlist]") {
  std::mt19937 random(1);
  std::map<std::string, int> decided, asked;  // by the way it was decided
  for (int trial = 0; trial < 3'000; ++trial) {
    const SamplingOptions options = any_options(random);
    const LogitKind kind = logit_kinds[random() % logit_kinds.size()];
    const std::int64_t n_vocab = any_of(random, {1, 7, 300, 300, 1'000});
    Sampler whole(options), by_list(options);
    for (int step = 0; step < 8; ++step) {
      const std::vector<float> logits = random_logits(kind, n_vocab, random());
      // As long as asked for, or of any other length: shorter ones must not decide wrongly.
      const std::int32_t wanted = by_list.shortlist_size(256);
      const bool as_wanted = wanted > 0 && random() % 2 == 0;
      const List made(logits, static_cast<std::size_t>(as_wanted ? wanted : any_of(random, {1, 2, 30, 256})),
                      any_of(random, {-5e-6, 0.0, 5e-6}));
      INFO(text_of(options) << "; " << n_vocab << " logits, " << name_of(kind) << ", list of "
                            << made.list.likeliest.size() << ", step " << step);
      const TokenId expected = whole.sample(logits);
      const std::optional<TokenId> found = by_list.sample(made.list);
      // Undecided, nothing has changed: all logits give it now.
      REQUIRE(found.value_or(expected) == expected);
      if (!found) REQUIRE(by_list.sample(logits) == expected);

      const bool has_top_k = options.temperature <= 0 || (options.top_k > 0 && options.top_k < n_vocab);
      if (as_wanted && has_top_k && wanted < 256) REQUIRE(found);  // k and all penalised: always enough
      const std::string way = options.temperature <= 0 ? "greedy"
                              : has_top_k              ? "top-k"
                              : options.top_p < 1      ? "top-p"
                              : options.min_p > 0      ? "min-p"
                                                       : "none";
      if (as_wanted) ++asked[way], decided[way] += found.has_value();
      if (as_wanted && way == "none") REQUIRE(options.top_k >= n_vocab);  // all of a small vocabulary
      whole.accept(expected);
      by_list.accept(expected);
      if (random() % 4 == 0) {  // tokens of a prompt, likely ones or not
        const auto id = static_cast<TokenId>(random() % static_cast<std::uint32_t>(n_vocab + 1));
        whole.accept(id), by_list.accept(id);
      }
    }
  }
  for (const char* way : {"greedy", "top-k", "top-p", "min-p"}) {
    INFO(way << ": " << decided[way] << " of " << asked[way]);
    CHECK(asked[way] > 100);
    CHECK(decided[way] > asked[way] / 4);
  }
}

TEST_CASE("without any cut, or with penalties that make tokens likelier, all logits are needed",
          "[shortlist]") {
  const std::vector<float> logits = random_logits(LogitKind::normal, 300, 3);
  const List made(logits, 256);
  Sampler uncut(plain_sampling());
  CHECK(uncut.shortlist_size(256) == 0);
  CHECK_FALSE(uncut.sample(made.list));
  for (int which = 0; which < 3; ++which) {
    SamplingOptions options;
    if (which == 0) options.repeat_penalty = 0.9f;
    if (which == 1) options.presence_penalty = -0.1f;
    if (which == 2) options.frequency_penalty = -0.1f;
    REQUIRE(may_raise(options));
    Sampler sampler(options);
    CHECK(sampler.shortlist_size(256) == 40);  // nothing to raise yet
    sampler.accept(299);
    CHECK(sampler.shortlist_size(256) == 0);
    CHECK_FALSE(sampler.sample(made.list));
  }
}

TEST_CASE("a list as long as top-k and the penalised tokens is wished for", "[shortlist]") {
  SamplingOptions options;
  options.presence_penalty = 1.0f;
  options.repeat_last_n = 3;
  Sampler sampler(options);
  CHECK(sampler.shortlist_size(256) == 40);
  for (const TokenId id : {5, 6, 5}) sampler.accept(id);
  CHECK(sampler.shortlist_size(256) == 42);
  CHECK(sampler.shortlist_size(41) == 41);  // may do: some penalised tokens stay in front as a rule
  CHECK(sampler.shortlist_size(39) == 0);
  CHECK(sampler.shortlist_size(0) == 0);
  options.temperature = 0.0f;
  CHECK(Sampler(options).shortlist_size(256) == 1);
}

TEST_CASE("a list that penalties empty of its first tokens decides only if it is long enough",
          "[shortlist]") {
  const std::vector<float> logits = {5.0f, 4.0f, 3.0f, 2.0f};
  SamplingOptions options;
  options.presence_penalty = 1.5f;
  options.temperature = 0.0f;
  Sampler greedy(options);
  greedy.accept(0);
  CHECK_FALSE(greedy.sample(List(logits, 1).list));  // 3.5 now, and what follows may have more
  CHECK(greedy.sample(List(logits, 2).list) == 1);
  options.temperature = 1.0f;
  options.top_k = 2;
  Sampler two(options);
  two.accept(0), two.accept(1);
  CHECK_FALSE(two.sample(List(logits, 2).list));  // 3.5 and 2.5
  CHECK(two.sample(List(logits, 3).list));        // 3.5 and 3: nothing can come before these
}

TEST_CASE("top-p decides when its mass is listed, and not too near the edge of a token", "[shortlist]") {
  SamplingOptions options = plain_sampling();
  options.top_p = 0.5f;
  const std::vector<float> equal(4, 1.0f);
  CHECK_FALSE(Sampler(options).sample(List(equal, 4).list));  // two of four are just half of them
  options.top_p = 0.6f;
  CHECK_FALSE(Sampler(options).sample(List(equal, 2).list));
  CHECK(Sampler(options).sample(List(equal, 3).list));
  options.min_p = 0.5f;  // keeps all of them as well
  CHECK_FALSE(Sampler(options).sample(List(equal, 2).list));
  const std::vector<float> two_of_four = {1.0f, 1.0f, 0.0f, 0.0f};
  options.top_p = 0.9f;
  CHECK_FALSE(Sampler(options).sample(List(two_of_four, 2).list));
  CHECK(Sampler(options).sample(List(two_of_four, 3).list));  // min-p drops what is missing
}

TEST_CASE("min-p alone draws in the order of ids, as from all logits", "[shortlist]") {
  SamplingOptions options = plain_sampling();
  options.min_p = 0.1f;
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    options.seed = seed;
    const std::vector<float> logits = {0.0f, -1.0f, -50.0f, 0.5f, -0.5f, -60.0f};
    CHECK(Sampler(options).sample(List(logits, 5).list) == Sampler(options).sample(logits));
  }
}

TEST_CASE("errors are those of all logits", "[shortlist]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float bad : {nan, -nan, infinity}) {
    std::vector<float> logits(300, 0.0f);
    logits[17] = bad;
    logits[200] = nan;
    Sampler sampler{SamplingOptions{}};
    const Shortlist list = {{}, {.first_invalid = 17, .invalid = bad}, 300};
    const std::string expected = complaint([&] { sampler.sample(logits); });
    CHECK(expected.find("token 17") != std::string::npos);
    CHECK(complaint([&] { sampler.sample(list); }) == expected);
  }
  const std::vector<float> impossible(300, -infinity);
  Sampler sampler{SamplingOptions{}};
  CHECK(complaint([&] { sampler.sample(List(impossible, 64).list); }) ==
        complaint([&] { sampler.sample(impossible); }));
}
