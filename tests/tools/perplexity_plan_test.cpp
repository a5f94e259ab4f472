// Chunks of a perplexity run: which tokens are fed, which rows are scored.
#include "tools/cga/commands/perplexity/plan.h"

#include <numeric>

#include "cga/error.h"
#include "support/catch.h"

namespace cga::cli {
namespace {

ErrorKind refusal(const ChunkOptions& options, std::int64_t n_tokens) {
  try {
    plan_chunks(options, n_tokens);
  } catch (const Error& error) {
    return error.kind();
  }
  FAIL("accepted");
  return {};
}

TEST_CASE("chunks do not overlap and score their second half") {
  const ChunkPlan plan = plan_chunks({.n_ctx = 512, .max_chunks = 40}, 100'000);
  CHECK(plan.length == 512);
  CHECK(plan.n_chunks == 40);
  CHECK(plan.start(3) == 3 * 512);
  CHECK(plan.first_scored == 256);
  CHECK(plan.n_scored() == 255);  // the last row predicts a token of the next chunk
  CHECK(plan.n_rows() == 40 * 255);
  CHECK(plan.n_tokens() == 40 * 512);
}

TEST_CASE("without a limit, as many chunks as the text fills") {
  CHECK(plan_chunks({.n_ctx = 128}, 128 * 7 + 127).n_chunks == 7);
  CHECK(plan_chunks({.n_ctx = 128, .max_chunks = 9}, 128 * 7).n_chunks == 7);
}

TEST_CASE("scoring may start elsewhere") {
  CHECK(plan_chunks({.n_ctx = 8, .score_from = 0}, 16).n_scored() == 7);
  CHECK(plan_chunks({.n_ctx = 8, .score_from = 6}, 16).n_scored() == 1);
  CHECK(refusal({.n_ctx = 8, .score_from = 7}, 16) == ErrorKind::usage);
  CHECK(refusal({.n_ctx = 8, .stride = 2, .score_from = 0}, 160) == ErrorKind::usage);
}

TEST_CASE("a stride scores the last tokens of chunks that overlap") {
  const ChunkPlan plan = plan_chunks({.n_ctx = 512, .stride = 256}, 10'000);
  CHECK(plan.length == 512 + 128);
  CHECK(plan.step == 256);
  CHECK(plan.n_scored() == 256);
  CHECK(plan.n_chunks == (10'000 - 640 + 255) / 256);
  CHECK(plan.n_tokens() <= 10'000);
  // Consecutive chunks score consecutive tokens, none twice.
  CHECK(plan.start(1) + plan.first_scored == plan.start(0) + plan.first_scored + plan.n_scored());
}

TEST_CASE("a short text is refused with both counts") {
  try {
    plan_chunks({.n_ctx = 512}, 1023);
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(std::string(error.what()).find("1024") != std::string::npos);
    CHECK(std::string(error.what()).find("1023") != std::string::npos);
  }
  CHECK(plan_chunks({.n_ctx = 512}, 1024).n_chunks == 2);
}

TEST_CASE("one chunk is enough where the caller says so") {
  const ChunkPlan plan = plan_chunks({.n_ctx = 512, .score_from = 100, .min_chunks = 1}, 512);
  CHECK(plan.n_chunks == 1);
  CHECK(plan.n_rows() == 411);
  CHECK(plan_chunks({.n_ctx = 512, .min_chunks = 1}, 1023).n_chunks == 1);
  CHECK(plan_chunks({.n_ctx = 512, .stride = 256, .min_chunks = 1}, 640).n_chunks == 1);
  CHECK(refusal({.n_ctx = 512, .min_chunks = 1}, 511) == ErrorKind::usage);
}

TEST_CASE("options out of range are refused") {
  CHECK(refusal({.n_ctx = 1}, 1000) == ErrorKind::usage);
  CHECK(refusal({.n_ctx = 512, .stride = 512}, 10'000) == ErrorKind::usage);
  CHECK(refusal({.n_ctx = 512, .stride = -1}, 10'000) == ErrorKind::usage);
  CHECK(refusal({.n_ctx = 512, .max_chunks = 0}, 10'000) == ErrorKind::usage);
}

TEST_CASE("the smallest context scores something") {
  CHECK(plan_chunks({.n_ctx = 2}, 4).n_scored() == 1);
}

TEST_CASE("chunks begin with BOS where the model wants it") {
  std::vector<TokenId> tokens(32);
  std::iota(tokens.begin(), tokens.end(), 100);
  const ChunkPlan plan = plan_chunks({.n_ctx = 8}, 32);
  CHECK(chunk_inputs(plan, 1, tokens, -1) == std::vector<TokenId>{108, 109, 110, 111, 112, 113, 114});
  CHECK(chunk_inputs(plan, 1, tokens, 1) == std::vector<TokenId>{1, 109, 110, 111, 112, 113, 114});
}

}  // namespace
}  // namespace cga::cli
