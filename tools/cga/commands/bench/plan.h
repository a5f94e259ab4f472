// Which tests a benchmark runs, as a pure function of the lists on the command line.
#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <vector>

namespace cga::cli {

/// Every combination is a test; prompt and generation are tested apart, as llama-bench does.
struct BenchLists {
  std::vector<std::int32_t> n_prompt = {512}, n_gen = {128},
                            n_depth = {0};     // 0 prompts or steps: no such test
  std::vector<std::int32_t> n_parallel = {1};  // sequences that generate together
  std::vector<std::int32_t> n_batch = {2048}, n_ubatch = {512}, n_threads = {0};
};

/// What an engine is loaded for.
struct BenchSetup {
  std::int32_t n_threads = 0, n_ubatch = 0;
  auto operator<=>(const BenchSetup&) const = default;
};

struct BenchTest {
  BenchSetup setup;
  std::int32_t n_batch = 0;   // prompt tokens handed to the engine at once
  std::int32_t n_prompt = 0;  // one of n_prompt and n_gen is zero
  std::int32_t n_gen = 0;
  std::int32_t n_depth = 0;  // tokens in the cache before the test begins, of each sequence
  std::int32_t n_parallel = 1;

  std::int32_t n_tokens() const { return n_prompt + n_gen; }  ///< of each sequence
  std::string name() const;                                   ///< "pp512", "tg128 @ d4096", "tg128 x 8"
};

/// All tests, those of one setup together.
/// @throws Error (usage) if there are none, or a context would be too long to count
std::vector<BenchTest> plan_tests(const BenchLists& lists);

/// Context that the longest of the tests with this setup needs.
std::int32_t context_needed(const std::vector<BenchTest>& tests, const BenchSetup& setup);

/// Sequences that the widest of the tests with this setup needs.
std::int32_t sequences_needed(const std::vector<BenchTest>& tests, const BenchSetup& setup);

}  // namespace cga::cli
