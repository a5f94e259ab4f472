// How the CUDA backend cuts rows of logits: pure functions, tested without a GPU.
#include "kernels/cuda/shortlist/plan.h"
#include "support/catch.h"

using namespace cga::cuda;

TEST_CASE("parts cover a row, and none is empty", "[shortlist][plan]") {
  CHECK(n_parts(1) == 1);
  CHECK(n_parts(4096) == 1);
  CHECK(n_parts(4097) == 2);
  CHECK(n_parts(49'152) == 12);
  CHECK(n_parts(128'256) == 32);
  CHECK(n_parts(151'936) == 38);
}

TEST_CASE("a merging block holds what all parts leave, for every row that has shortlists",
          "[shortlist][plan]") {
  CHECK(longest_shortlist(262'144) == most_shortlisted);
  CHECK(longest_shortlist(262'145) == 0);
  for (std::int64_t n_vocab = 1; n_vocab <= 262'144; n_vocab += 1 + n_vocab / 100) {
    REQUIRE(n_parts(n_vocab) <= most_parts);
    for (int k = 1; k <= most_shortlisted; ++k) {
      const int held = merge_thread_keys(n_vocab, k);
      REQUIRE(n_parts(n_vocab) * k <= merge_threads * held);
      REQUIRE((held == few_thread_keys || held == most_thread_keys));
    }
  }
}

TEST_CASE("the usual shortlist of 64 takes the quick merge, whatever the vocabulary", "[shortlist][plan]") {
  for (const std::int64_t n_vocab : {49'152, 128'256, 151'936, 262'144}) {
    CHECK(merge_thread_keys(n_vocab, 64) == few_thread_keys);
  }
}
