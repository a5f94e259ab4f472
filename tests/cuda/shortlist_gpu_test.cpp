// Shortlists on the device beside the oracle's: to the bit, but for sums; whatever the neighbours; and tokens
// that the engine samples by them.
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "cuda/gpu.h"
#include "kernels/cuda/shortlist/plan.h"
#include "support/catch.h"
#include "support/shortlists.h"

namespace cga::test {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t part = 4096;  // logits that one block selects from

/// Room for the rows of a batch of 32 at once, as an engine would reserve it.
void reserve(Backend& backend) {
  const std::pair<std::int64_t, std::int64_t> matrix{64, 64};
  backend.ops().reserve_work({.n_tokens = 1,
                              .n_sequences = 32,
                              .n_ctx = 256,
                              .n_heads = 8,
                              .head_dim = 64,
                              .matrices = {&matrix, 1}});
}

/// The first k of longer lists.
TakenShortlists shortened(const TakenShortlists& long_lists, std::size_t k) {
  TakenShortlists result{{}, long_lists.summaries};
  const std::size_t n = long_lists.likeliest.size() / long_lists.summaries.size();
  for (std::size_t at = 0; at < long_lists.likeliest.size(); at += n) {
    const auto first = long_lists.likeliest.begin() + static_cast<std::ptrdiff_t>(at);
    result.likeliest.insert(result.likeliest.end(), first, first + static_cast<std::ptrdiff_t>(k));
  }
  return result;
}

void check_against_oracle(Backend& cuda, Backend& scalar, const std::vector<float>& logits,
                          std::int64_t n_rows, const std::string& what) {
  const std::int64_t n_vocab = static_cast<std::int64_t>(logits.size()) / n_rows,
                     longest = std::min<std::int64_t>(n_vocab, 256);
  const TakenShortlists expected =
      take_shortlists(scalar, logits, n_rows, static_cast<std::int32_t>(longest));
  for (const std::int64_t k : {1, 2, 40, 64, 65, 255, 256}) {
    if (k > longest) break;
    const auto taken = take_shortlists(cuda, logits, n_rows, static_cast<std::int32_t>(k));
    INFO(n_rows << " rows of " << n_vocab << ", " << what << ", the first " << k);
    REQUIRE(difference(taken, shortened(expected, static_cast<std::size_t>(k))) == "none");
  }
}

}  // namespace

TEST_CASE("small shortlists are the oracle's", "[gpu][shortlist][small]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const std::int64_t n_vocab :
       {std::int64_t{1}, std::int64_t{7}, std::int64_t{33}, std::int64_t{511}, std::int64_t{513}, part - 1,
        part, part + 1, part + 41, 2 * part + 300}) {
    for (const LogitKind kind : logit_kinds) {
      check_against_oracle(*cuda, *scalar, random_logits(kind, 3 * n_vocab, 1), 3, name_of(kind));
    }
  }
}

TEST_CASE("shortlists of whole vocabularies are the oracle's", "[gpu][shortlist]") {
  const auto cuda = gpu();
  if (!cuda) return;
  reserve(*cuda);
  const auto scalar = make_backend("scalar", 1);
  for (const std::int64_t n_vocab : {49'152, 128'256, 151'936, 64 * 4096}) {
    REQUIRE(cuda::longest_shortlist(n_vocab) == 256);
    for (const LogitKind kind : logit_kinds) {
      for (const std::int64_t n_rows : {1, 5}) {
        check_against_oracle(*cuda, *scalar, random_logits(kind, n_rows * n_vocab, 2), n_rows, name_of(kind));
      }
    }
  }
  REQUIRE(cuda::longest_shortlist(64 * 4096 + 1) == 0);
}

TEST_CASE("a likely token is found wherever it stands", "[gpu][shortlist]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const std::int64_t n_vocab = 3 * part + 17;
  std::vector<float> logits(static_cast<std::size_t>(n_vocab), -1.0f);
  for (std::int64_t id = 0; id < n_vocab; id += id % 97 == 0 ? 1 : 13) {
    logits[static_cast<std::size_t>(id)] = 5.0f;
    const TakenShortlists taken = take_shortlists(*cuda, logits, 1, 3);
    logits[static_cast<std::size_t>(id)] = -1.0f;
    INFO("token " << id);
    REQUIRE(taken.likeliest[0].id == id);
    REQUIRE(taken.likeliest[1].id == (id == 0 ? 1 : 0));
    REQUIRE(taken.likeliest[2].id == (id <= 1 ? 2 : 1));
  }
}

TEST_CASE("a row's shortlist is the same bits whatever its neighbours, how many rows go at once, and k",
          "[gpu][shortlist]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto reserved = gpu();
  reserve(*reserved);
  const std::int64_t n_vocab = 49'152, n_rows = 70;
  const std::vector<float> logits = random_logits(LogitKind::normal, n_rows * n_vocab, 3);
  const TakenShortlists one_by_one = take_shortlists(*cuda, logits, n_rows, 40),
                        at_once = take_shortlists(*reserved, logits, n_rows, 40),
                        longer = take_shortlists(*reserved, logits, n_rows, 256);
  for (std::size_t row = 0; row < static_cast<std::size_t>(n_rows); ++row) {
    INFO("row " << row);
    const auto first = logits.begin() + static_cast<std::ptrdiff_t>(row) * n_vocab;
    const TakenShortlists alone = take_shortlists(*cuda, {first, first + n_vocab}, 1, 40);
    for (const TakenShortlists* together : {&one_by_one, &at_once}) {
      REQUIRE(std::memcmp(&together->summaries[row], &alone.summaries[0], sizeof(LogitSummary)) == 0);
      REQUIRE(std::memcmp(&together->likeliest[row * 40], alone.likeliest.data(), 40 * sizeof(Candidate)) ==
              0);
    }
    REQUIRE(std::memcmp(&longer.summaries[row], &alone.summaries[0], sizeof(LogitSummary)) == 0);
  }
}

TEST_CASE("values that are no logits are found wherever they stand, and harm no other row",
          "[gpu][shortlist][small]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  float last_nan;  // all bits set: sorts below everything
  const std::uint32_t bits = ~0u;
  std::memcpy(&last_nan, &bits, sizeof bits);
  const std::int64_t n_vocab = 2 * part + 300;
  for (const float bad : {nan, -nan, last_nan, infinity}) {
    for (const std::int64_t id : {std::int64_t{0}, std::int64_t{511}, part - 1, part, n_vocab - 1}) {
      std::vector<float> logits = random_logits(LogitKind::normal, 3 * n_vocab, 4);
      logits[static_cast<std::size_t>(n_vocab + id)] = bad;
      logits[static_cast<std::size_t>(2 * n_vocab - 1)] = bad;  // a second one, or the same
      check_against_oracle(*cuda, *scalar, logits, 3, "bad at " + std::to_string(id));
    }
  }
  std::vector<float> all_bad(static_cast<std::size_t>(3 * n_vocab), last_nan);
  std::fill(all_bad.begin(), all_bad.begin() + n_vocab, 1.0f);
  std::fill(all_bad.begin() + n_vocab, all_bad.begin() + 2 * n_vocab, -infinity);  // impossible, not invalid
  check_against_oracle(*cuda, *scalar, all_bad, 3, "nothing but one value");
}

TEST_CASE("tokens sampled on the device are those that the logits give", "[gpu][shortlist]") {
  if (!gpu()) return;
  for (const char* name : {"llama-legacy", "qwen2-mixed"}) {
    EngineOptions options;
    options.model = std::filesystem::path(CGA_VECTORS) / "tiny" / (std::string(name) + ".gguf");
    options.device = "cuda";
    options.kv = KvType::bf16;
    options.n_ctx = 256;
    options.n_sequences = 3;
    Engine engine(options);
    std::vector<SamplingOptions> ways(5);
    ways[1].temperature = 0.0f;
    ways[2].repeat_penalty = 1.3f;
    ways[3].top_k = 0;
    ways[4].top_k = 0, ways[4].top_p = 1.0f, ways[4].min_p = 0.0f;
    for (const SamplingOptions& way : ways) {
      std::vector<Session> sessions;
      std::vector<Sampler> by_engine, by_hand;
      std::vector<TokenId> last = {5, 96, 187};
      for (int s = 0; s < 3; ++s) {
        sessions.emplace_back(engine);
        by_engine.emplace_back(way);
        by_hand.emplace_back(way);
      }
      for (int step = 0; step < 40; ++step) {  // the first directly, then recorded
        std::vector<Feed> feeds;
        for (std::size_t s = 0; s < 3; ++s) feeds.push_back({&sessions[s], std::span(last).subspan(s, 1)});
        REQUIRE(engine.feed(feeds) == 3);
        for (std::size_t s = 0; s < 3; ++s) {
          INFO(name << ", step " << step << ", sequence " << s);
          last[s] = engine.sample(static_cast<std::int64_t>(s), by_engine[s]);
          REQUIRE(last[s] == by_hand[s].sample(engine.logits(static_cast<std::int64_t>(s))));
          by_engine[s].accept(last[s]);
          by_hand[s].accept(last[s]);
        }
      }
    }
  }
}

}  // namespace cga::test
