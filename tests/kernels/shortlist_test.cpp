// Shortlists: the likeliest tokens of rows of logits in their total order, the sum beside them, and what is
// said of rows with values that are no logits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/shortlists.h"

using namespace cga;
using namespace cga::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
const float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Backends {
  std::unique_ptr<Backend> cpu = make_backend("cpu", 2), scalar = make_backend("scalar", 1);
};

std::vector<TokenId> ids_of(const TakenShortlists& taken) {
  std::vector<TokenId> ids;
  for (const Candidate& candidate : taken.likeliest) ids.push_back(candidate.id);
  return ids;
}

}  // namespace

TEST_CASE("a shortlist is sorted, likeliest first, equals by their id", "[shortlist]") {
  Backends backends;
  const std::vector<float> logits = {1.0f, 3.0f, -infinity, 3.0f, 2.0f, -5.0f};
  for (Backend* backend : {backends.cpu.get(), backends.scalar.get()}) {
    INFO(backend->name());
    CHECK(ids_of(take_shortlists(*backend, logits, 1, 1)) == std::vector<TokenId>{1});
    CHECK(ids_of(take_shortlists(*backend, logits, 1, 3)) == std::vector<TokenId>{1, 3, 4});
    const TakenShortlists all = take_shortlists(*backend, logits, 1, 6);
    CHECK(ids_of(all) == std::vector<TokenId>{1, 3, 4, 0, 5, 2});
    CHECK(all.likeliest[5].logit == -infinity);
    CHECK(all.summaries[0].first_invalid == -1);
    const double expected = 2 + std::exp(-1.0) + std::exp(-2.0) + std::exp(-8.0);
    CHECK(all.summaries[0].sum == Approx(expected).epsilon(1e-6));
  }
}

TEST_CASE("both zeros are one value", "[shortlist]") {
  Backends backends;
  for (Backend* backend : {backends.cpu.get(), backends.scalar.get()}) {
    const TakenShortlists taken = take_shortlists(*backend, {-1.0f, -0.0f, 0.0f, -0.0f}, 1, 3);
    CHECK(ids_of(taken) == std::vector<TokenId>{1, 2, 3});
    CHECK_FALSE(std::signbit(taken.likeliest[0].logit));
  }
}

TEST_CASE("the first value that is no logit is told, and other rows are as they were", "[shortlist]") {
  Backends backends;
  const std::vector<float> logits = {0.0f,         1.0f,      -infinity,    2.0f,       //
                                     0.0f,         infinity,  not_a_number, 2.0f,       //
                                     not_a_number, infinity,  -infinity,    2.0f,       //
                                     0.0f,         0.0f,      -infinity,    -infinity,  //
                                     -infinity,    -infinity, -infinity,    -infinity};
  for (Backend* backend : {backends.cpu.get(), backends.scalar.get()}) {
    INFO(backend->name());
    const TakenShortlists taken = take_shortlists(*backend, logits, 5, 2);
    CHECK(taken.summaries[0].first_invalid == -1);
    CHECK(taken.summaries[1].first_invalid == 1);
    CHECK(taken.summaries[1].invalid == infinity);
    CHECK(taken.summaries[2].first_invalid == 0);
    CHECK(std::isnan(taken.summaries[2].invalid));
    CHECK(taken.summaries[3].first_invalid == -1);
    CHECK(taken.summaries[3].sum == 2.0);
    CHECK(taken.summaries[4].first_invalid == -1);  // nothing is possible, but nothing is wrong with a number
    CHECK(taken.summaries[4].sum == 0.0);
    CHECK(taken.likeliest[8].logit == -infinity);
    CHECK(ids_of(take_shortlists(*backend, {0.0f, 1.0f, -infinity, 2.0f}, 1, 2)) ==
          std::vector<TokenId>{taken.likeliest[0].id, taken.likeliest[1].id});
  }
}

TEST_CASE("the CPU's shortlists are the oracle's", "[shortlist]") {
  Backends backends;
  for (const std::int64_t n_vocab : {1, 7, 284, 5000}) {
    for (const LogitKind kind : logit_kinds) {
      for (const std::int64_t k : {std::int64_t{1}, std::int64_t{40}, n_vocab}) {
        if (k > n_vocab) continue;
        const std::vector<float> logits = random_logits(kind, 3 * n_vocab, static_cast<std::uint32_t>(k));
        INFO(n_vocab << " logits, " << name_of(kind) << ", " << k);
        const TakenShortlists actual =
                                  take_shortlists(*backends.cpu, logits, 3, static_cast<std::int32_t>(k)),
                              expected =
                                  take_shortlists(*backends.scalar, logits, 3, static_cast<std::int32_t>(k));
        CHECK(difference(actual, expected) == "none");
      }
    }
  }
}

TEST_CASE("a wrong shortlist is told from a right one", "[shortlist]") {
  Backends backends;
  const std::vector<float> logits = random_logits(LogitKind::normal, 100, 1);
  const TakenShortlists right = take_shortlists(*backends.scalar, logits, 1, 10);
  CHECK(difference(right, right) == "none");
  TakenShortlists wrong = right;
  std::swap(wrong.likeliest[3], wrong.likeliest[4]);
  CHECK(difference(wrong, right) != "none");
  wrong = right;
  wrong.likeliest[9].logit = std::nextafter(wrong.likeliest[9].logit, infinity);
  CHECK(difference(wrong, right) != "none");
  wrong = right;
  wrong.summaries[0].sum *= 1.0001;
  CHECK(difference(wrong, right) != "none");
  wrong = right;
  wrong.summaries[0].first_invalid = 5;
  CHECK(difference(wrong, right) != "none");
}
