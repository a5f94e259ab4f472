// The list of tests; see the header.
#include "tools/cga/commands/bench/plan.h"

#include <algorithm>

#include "cga/error.h"

namespace cga::cli {
namespace {

constexpr std::int64_t max_context = 1 << 26;

void add_tests(const BenchLists& lists, const BenchTest& common, std::vector<BenchTest>& tests) {
  for (const std::int32_t n : lists.n_prompt) {
    BenchTest test = common;
    test.n_prompt = n;
    if (n > 0) tests.push_back(test);
  }
  for (const std::int32_t n : lists.n_gen) {
    for (const std::int32_t n_parallel : lists.n_parallel) {
      BenchTest test = common;
      test.n_gen = n;
      test.n_parallel = n_parallel;
      if (n > 0) tests.push_back(test);
    }
  }
}

}  // namespace

std::string BenchTest::name() const {
  std::string text = n_prompt > 0 ? "pp" + std::to_string(n_prompt) : "tg" + std::to_string(n_gen);
  if (n_parallel > 1) text += " x " + std::to_string(n_parallel);
  if (n_depth > 0) text += " @ d" + std::to_string(n_depth);
  return text;
}

std::vector<BenchTest> plan_tests(const BenchLists& lists) {
  std::vector<BenchTest> tests;
  for (const std::int32_t n_threads : lists.n_threads) {
    for (const std::int32_t n_ubatch : lists.n_ubatch) {
      for (const std::int32_t n_batch : lists.n_batch) {
        for (const std::int32_t n_depth : lists.n_depth) {
          add_tests(lists, {{n_threads, n_ubatch}, n_batch, 0, 0, n_depth}, tests);
        }
      }
    }
  }
  if (tests.empty()) {
    throw Error(ErrorKind::usage, "-p, -n", "all prompt and generation lengths are 0",
                "give one of them a length");
  }
  for (const BenchTest& test : tests) {
    if (std::int64_t{test.n_depth} + test.n_tokens() <= max_context) continue;
    throw Error(ErrorKind::usage, "-d",
                test.name() + " needs a context above " + std::to_string(max_context));
  }
  return tests;
}

std::int32_t context_needed(const std::vector<BenchTest>& tests, const BenchSetup& setup) {
  std::int32_t longest = 0;
  for (const BenchTest& test : tests) {
    if (test.setup == setup) longest = std::max(longest, test.n_depth + test.n_tokens());
  }
  return longest;
}

std::int32_t sequences_needed(const std::vector<BenchTest>& tests, const BenchSetup& setup) {
  std::int32_t most = 1;
  for (const BenchTest& test : tests) {
    if (test.setup == setup) most = std::max(most, test.n_parallel);
  }
  return most;
}

}  // namespace cga::cli
