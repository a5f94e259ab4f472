// The sampler's definitions, each against a distribution small enough to work out by hand.
#include "cga/sampling.h"

#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "cga/error.h"
#include "runtime/plain_sampling.h"
#include "support/catch.h"

using cga::Error;
using cga::ErrorKind;
using cga::Sampler;
using cga::SamplingOptions;
using cga::TokenId;
using cga::test::Approx;
using cga::test::plain_sampling;

namespace {

SamplingOptions greedy() {
  SamplingOptions options;
  options.temperature = 0.0f;
  return options;
}

/// Logits whose softmax is the given distribution.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

/// Shares of `n` draws, by token.
std::map<TokenId, double> frequencies(const SamplingOptions& options, const std::vector<float>& logits,
                                      int n = 40'000) {
  Sampler sampler(options);
  std::map<TokenId, double> shares;
  for (int i = 0; i < n; ++i) shares[sampler.sample(logits)] += 1.0 / n;
  return shares;
}

std::vector<TokenId> keys(const std::map<TokenId, double>& shares) {
  std::vector<TokenId> ids;
  for (const auto& [id, share] : shares) ids.push_back(id);
  return ids;
}

const std::vector<double> kFour = {0.1, 0.4, 0.2, 0.3};

}  // namespace

TEST_CASE("a plain draw follows the softmax") {
  const auto shares = frequencies(plain_sampling(), logits_of(kFour));
  for (TokenId id = 0; id < 4; ++id) {
    // Five standard deviations of 40,000 draws: sqrt(0.25 / 40,000) * 5.
    CHECK(shares.at(id) == Approx(kFour[static_cast<std::size_t>(id)]).margin(0.0125));
  }
}

TEST_CASE("temperature divides the logits before the draw") {
  SamplingOptions options = plain_sampling();
  options.temperature = 0.5f;  // squares the probabilities: 0.01 0.16 0.04 0.09, of 0.30
  const auto cold = frequencies(options, logits_of(kFour));
  CHECK(cold.at(0) == Approx(0.01 / 0.30).margin(0.0125));
  CHECK(cold.at(1) == Approx(0.16 / 0.30).margin(0.0125));

  options.temperature = 1e-6f;
  CHECK(keys(frequencies(options, logits_of(kFour), 100)) == std::vector<TokenId>{1});
}

TEST_CASE("greedy takes the highest logit, and the lower id of equals") {
  Sampler sampler(greedy());
  CHECK(sampler.sample(std::vector<float>{0.5f, 2.0f, -1.0f}) == 1);
  CHECK(sampler.sample(std::vector<float>{0.5f, 2.0f, 2.0f, 2.0f}) == 1);
  CHECK(sampler.sample(std::vector<float>{-std::numeric_limits<float>::infinity(), -1e30f}) == 1);
}

TEST_CASE("top-k draws from the k likeliest in their proportions") {
  SamplingOptions options = plain_sampling();
  options.top_k = 2;
  const auto shares = frequencies(options, logits_of(kFour));
  CHECK(keys(shares) == std::vector<TokenId>{1, 3});
  CHECK(shares.at(1) == Approx(0.4 / 0.7).margin(0.0125));

  SECTION("equals beyond k: the lower ids stay") {
    CHECK(keys(frequencies(options, {1.0f, 1.0f, 1.0f, 1.0f}, 200)) == std::vector<TokenId>{0, 1});
    CHECK(keys(frequencies(options, {0.0f, 1.0f, 1.0f, 1.0f}, 200)) == std::vector<TokenId>{1, 2});
  }
  SECTION("k beyond the vocabulary is all of it") {
    options.top_k = 100;
    CHECK(keys(frequencies(options, logits_of(kFour))) == std::vector<TokenId>{0, 1, 2, 3});
  }
}

TEST_CASE("top-p keeps the fewest tokens that reach p") {
  SamplingOptions options = plain_sampling();
  options.top_p = 0.65f;  // 0.4 + 0.3 reach it; 0.4 alone does not
  CHECK(keys(frequencies(options, logits_of(kFour))) == std::vector<TokenId>{1, 3});
  options.top_p = 0.75f;  // needs 0.2, too
  CHECK(keys(frequencies(options, logits_of(kFour))) == std::vector<TokenId>{1, 2, 3});
  options.top_p = 0.0f;  // one always stays
  CHECK(keys(frequencies(options, logits_of(kFour), 100)) == std::vector<TokenId>{1});
}

TEST_CASE("top-p counts shares of what top-k left") {
  SamplingOptions options = plain_sampling();
  options.top_k = 2;
  options.top_p = 0.55f;  // 0.4 is 0.57 of the 0.7 that are left
  CHECK(keys(frequencies(options, logits_of(kFour), 500)) == std::vector<TokenId>{1});
}

TEST_CASE("top-p finds a nucleus of hundreds") {
  SamplingOptions options = plain_sampling();
  options.top_p = 0.5f;
  const auto shares = frequencies(options, std::vector<float>(1'000, 1.0f), 10'000);  // twenty draws each
  CHECK(shares.size() == Approx(500).margin(1));
  CHECK(shares.rbegin()->first == Approx(499).margin(1));
}

TEST_CASE("min-p drops what is less likely than a share of the likeliest") {
  SamplingOptions options = plain_sampling();
  options.min_p = 0.6f;  // of 0.4: 0.24
  CHECK(keys(frequencies(options, logits_of(kFour))) == std::vector<TokenId>{1, 3});
  options.min_p = 1.0f;
  CHECK(keys(frequencies(options, logits_of(kFour), 100)) == std::vector<TokenId>{1});
}

TEST_CASE("the cuts are made before the temperature") {
  SamplingOptions options = plain_sampling();
  options.min_p = 0.6f;
  options.temperature = 100.0f;  // flattens what is left: two tokens, half each
  const auto shares = frequencies(options, logits_of(kFour));
  CHECK(keys(shares) == std::vector<TokenId>{1, 3});
  CHECK(shares.at(1) == Approx(0.5).margin(0.0125));
}

TEST_CASE("the repeat penalty divides positive logits and multiplies negative ones") {
  SamplingOptions options = greedy();
  options.repeat_penalty = 2.0f;
  Sampler sampler(options);
  sampler.accept(0);
  CHECK(sampler.sample(std::vector<float>{4.0f, 2.5f}) == 1);  // 4 → 2
  CHECK(sampler.sample(std::vector<float>{4.0f, 1.5f}) == 0);
  CHECK(sampler.sample(std::vector<float>{-1.0f, -1.5f}) == 1);  // -1 → -2
  CHECK(sampler.sample(std::vector<float>{-1.0f, -2.5f}) == 0);
  sampler.accept(0);  // occurring twice makes no difference to it
  CHECK(sampler.sample(std::vector<float>{4.0f, 1.5f}) == 0);
}

TEST_CASE("presence is subtracted once, frequency for each occurrence") {
  SamplingOptions options = greedy();
  options.presence_penalty = 1.0f;
  Sampler presence(options);
  for (int i = 0; i < 3; ++i) presence.accept(0);
  CHECK(presence.sample(std::vector<float>{2.0f, 0.9f}) == 0);
  CHECK(presence.sample(std::vector<float>{2.0f, 1.1f}) == 1);

  options.presence_penalty = 0.0f;
  options.frequency_penalty = 1.0f;
  Sampler frequency(options);
  for (int i = 0; i < 3; ++i) frequency.accept(0);
  CHECK(frequency.sample(std::vector<float>{4.0f, 0.9f}) == 0);
  CHECK(frequency.sample(std::vector<float>{4.0f, 1.1f}) == 1);
}

TEST_CASE("penalties look back repeat_last_n tokens") {
  const std::vector<float> logits = {2.0f, 1.5f, 0.0f};
  SamplingOptions options = greedy();
  options.presence_penalty = 1.0f;
  const auto after = [&](std::int32_t last_n, const std::vector<TokenId>& history) {
    options.repeat_last_n = last_n;
    Sampler sampler(options);
    for (const TokenId id : history) sampler.accept(id);
    return sampler.sample(logits);
  };
  CHECK(after(2, {0, 2}) == 1);     // token 0 is in the window
  CHECK(after(2, {0, 2, 2}) == 0);  // and has left it
  CHECK(after(2, {0, 0, 2}) == 1);  // one of two has left
  CHECK(after(-1, {0, 2, 2, 2, 2}) == 1);
  CHECK(after(0, {0}) == 0);
}

TEST_CASE("tokens the vocabulary does not have are no concern of the penalties") {
  SamplingOptions options = greedy();
  options.presence_penalty = 1.0f;
  Sampler sampler(options);
  sampler.accept(-1);
  sampler.accept(1'000);
  CHECK(sampler.sample(std::vector<float>{1.0f, 0.5f}) == 0);
}

TEST_CASE("same seed, same tokens; another seed, others") {
  const std::vector<float> logits(1'000, 0.0f);
  const auto sequence = [&](std::uint64_t seed) {
    SamplingOptions options = plain_sampling();
    options.seed = seed;
    Sampler sampler(options);
    std::vector<TokenId> ids;
    for (int i = 0; i < 20; ++i) ids.push_back(sampler.sample(logits));
    return ids;
  };
  CHECK(sequence(7) == sequence(7));
  CHECK(sequence(7) != sequence(8));
}

TEST_CASE("the random sequence is the same on every platform") {
  // mt19937_64's first number for the default seed 5489 is 14514284786278117030: 0.78682 of 2^64.
  SamplingOptions options = plain_sampling();
  options.seed = 5489;
  CHECK(Sampler(options).sample(std::vector<float>(1'000, 0.0f)) == 786);
}

TEST_CASE("logits that are no numbers are an error, not a token") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const SamplingOptions& options : {plain_sampling(), greedy(), SamplingOptions{}}) {
    Sampler sampler(options);
    CHECK_THROWS_AS(sampler.sample(std::vector<float>{0.0f, nan, 1.0f}), Error);
    CHECK_THROWS_AS(sampler.sample(std::vector<float>{0.0f, infinity}), Error);
    CHECK_THROWS_AS(sampler.sample(std::vector<float>{-infinity, -infinity}), Error);
    CHECK_THROWS_AS(sampler.sample(std::vector<float>{}), Error);
    CHECK(sampler.sample(std::vector<float>{-infinity, 3.0f, -infinity}) == 1);
  }
}

TEST_CASE("an option out of range is a usage error that names it") {
  const auto complaint = [](auto&& change) {
    SamplingOptions options;
    change(options);
    try {
      Sampler sampler(options);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::usage);
      return std::string(error.what());
    }
    return std::string();
  };
  const auto names = [](const std::string& text, const std::string& option) {
    return text.find(option) != std::string::npos;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(complaint([](SamplingOptions&) {}).empty());
  CHECK(names(complaint([&](SamplingOptions& o) { o.temperature = nan; }), "--temp"));
  CHECK(names(complaint([](SamplingOptions& o) { o.top_k = -1; }), "--top-k"));
  CHECK(names(complaint([](SamplingOptions& o) { o.top_p = 1.5f; }), "--top-p"));
  CHECK(names(complaint([&](SamplingOptions& o) { o.top_p = nan; }), "--top-p"));
  CHECK(names(complaint([](SamplingOptions& o) { o.min_p = -0.1f; }), "--min-p"));
  CHECK(names(complaint([](SamplingOptions& o) { o.repeat_penalty = 0.0f; }), "--repeat-penalty"));
  CHECK(names(complaint([&](SamplingOptions& o) { o.presence_penalty = nan; }), "--presence-penalty"));
  CHECK(names(complaint([&](SamplingOptions& o) { o.frequency_penalty = nan; }), "--frequency-penalty"));
  CHECK(names(complaint([](SamplingOptions& o) { o.repeat_last_n = -2; }), "--repeat-last-n"));
}
