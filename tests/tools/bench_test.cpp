// Benchmark plans and renderings.
#include <cmath>
#include <nlohmann/json.hpp>

#include "cga/error.h"
#include "support/catch.h"
#include "tools/cga/commands/bench/report.h"

namespace cga::cli {
namespace {

using test::Approx;

BenchResult example() {
  BenchResult result;
  result.subject.build = "1.2.3";
  result.subject.cpu_info = "A \"fast\" processor, 2 cores";
  result.subject.backend = "CPU";
  result.subject.model_type = "llama 135M Q4_1";
  result.subject.model_size = 98 << 20;
  result.subject.model_n_params = 134'515'008;
  result.subject.n_threads = 2;
  result.subject.bandwidth_gb_per_s = 20.0;
  result.test = {{2, 512}, 2048, 0, 128, 4096};
  result.samples_ns = {1'000'000'000, 2'000'000'000};
  result.bytes_per_token = 1e8;
  return result;
}

TEST_CASE("all combinations are tests, grouped by what the engine is loaded for") {
  BenchLists lists;
  lists.n_depth = {0, 64};
  lists.n_threads = {1, 2};
  const std::vector<BenchTest> tests = plan_tests(lists);
  REQUIRE(tests.size() == 8);
  CHECK(tests[0].name() == "pp512");
  CHECK(tests[1].name() == "tg128");
  CHECK(tests[2].name() == "pp512 @ d64");
  CHECK(tests[3].setup.n_threads == 1);
  CHECK(tests[4].setup.n_threads == 2);
  CHECK(context_needed(tests, tests[0].setup) == 64 + 512);
}

TEST_CASE("sequences that generate together are a test each number, and count all their tokens") {
  BenchLists lists;
  lists.n_parallel = {1, 8};
  const std::vector<BenchTest> tests = plan_tests(lists);
  REQUIRE(tests.size() == 3);  // prompts are read one at a time
  CHECK(tests[2].name() == "tg128 x 8");
  CHECK(sequences_needed(tests, tests[0].setup) == 8);
  BenchResult result = example();
  result.test.n_parallel = 8;
  CHECK(average(result.samples_ts()) == Approx(8 * 96.0));
}

TEST_CASE("a length of 0 leaves a kind of test out, and no test at all is refused") {
  BenchLists lists;
  lists.n_prompt = {0};
  lists.n_gen = {16, 32};
  CHECK(plan_tests(lists).size() == 2);
  lists.n_gen = {0};
  CHECK_THROWS_AS(plan_tests(lists), Error);
  lists.n_gen = {1};
  lists.n_depth = {2'000'000'000};
  CHECK_THROWS_AS(plan_tests(lists), Error);
}

TEST_CASE("rates, their deviation and bandwidth follow from the samples") {
  const BenchResult result = example();
  // 128 tokens in 1 s and in 2 s: 128 and 64 tokens/s
  CHECK(average(result.samples_ts()) == Approx(96.0));
  CHECK(sample_deviation(result.samples_ts()) == Approx(32.0 * std::sqrt(2.0)));
  CHECK(result.gb_per_s() == Approx(9.6));
  CHECK(result.bandwidth_share() == Approx(0.48));
  CHECK(sample_deviation({5.0}) == 0.0);
}

TEST_CASE("json is an array of records with llama-bench's names") {
  BenchReport report(BenchFormat::json, {});
  std::string text = report.add(example());
  text += report.add(example());
  const nlohmann::json parsed = nlohmann::json::parse(text + report.end());
  REQUIRE(parsed.size() == 2);
  CHECK(parsed[1]["cpu_info"] == "A \"fast\" processor, 2 cores");
  CHECK(parsed[1]["avg_ts"] == Approx(96.0));
  CHECK(parsed[1]["avg_ns"] == 1'500'000'000);
  CHECK(parsed[1]["n_depth"] == 4096);
  CHECK(parsed[1]["samples_ns"].size() == 2);
  CHECK(nlohmann::json::parse(BenchReport(BenchFormat::json, {}).end()).empty());
}

TEST_CASE("csv quotes its values, a column for each name") {
  BenchReport report(BenchFormat::csv, {});
  const std::string text = report.add(example());
  const std::size_t line_end = text.find('\n');
  const std::string names = text.substr(0, line_end), values = text.substr(line_end + 1);
  CHECK(values.find("\"A \"\"fast\"\" processor, 2 cores\"") != std::string::npos);
  const auto count = [](const std::string& in, const std::string& what) {
    std::size_t n = 0;
    for (std::size_t at = in.find(what); at != std::string::npos; at = in.find(what, at + 1)) ++n;
    return n;
  };
  CHECK(count(names, ",") == count(values, "\",\""));
}

TEST_CASE("table rows are as wide as their heading") {
  BenchLists lists;
  lists.n_ubatch = {128, 512};
  BenchReport report(BenchFormat::md, lists);
  const std::string text = report.add(example());
  std::vector<std::size_t> widths;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find('\n', at);
    const std::string line = text.substr(at, end - at);
    widths.push_back(line.size() - (line.find("±") == std::string::npos ? 0 : 1));
    at = end + 1;
  }
  REQUIRE(widths.size() == 3);
  CHECK(widths[0] == widths[1]);
  CHECK(widths[0] == widths[2]);
  CHECK(text.find("tg128 @ d4096") != std::string::npos);
  CHECK(text.find("96.00 ± 45.25") != std::string::npos);
}

}  // namespace
}  // namespace cga::cli
