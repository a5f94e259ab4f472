// Renderings of a benchmark; see the header.
#include "tools/cga/commands/bench/report.h"

#include <spdlog/fmt/fmt.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

namespace cga::cli {
namespace {

using Record = nlohmann::ordered_json;

std::vector<double> as_doubles(const std::vector<std::int64_t>& values) {
  return {values.begin(), values.end()};
}

/// All scalar fields, in the order of csv columns.
Record record_of(const BenchResult& result) {
  const BenchSubject& subject = result.subject;
  const std::vector<double> ns = as_doubles(result.samples_ns);
  const std::vector<double> ts = result.samples_ts();
  return {
      {"build_commit", subject.build},
      {"cpu_info", subject.cpu_info},
      {"backends", subject.backend},
      {"model_filename", subject.model_filename},
      {"model_type", subject.model_type},
      {"model_size", subject.model_size},
      {"model_n_params", subject.model_n_params},
      {"n_batch", result.test.n_batch},
      {"n_ubatch", result.test.setup.n_ubatch},
      {"n_threads", subject.n_threads},
      {"type_k", subject.kv_type},
      {"type_v", subject.kv_type},
      {"n_prompt", result.test.n_prompt},
      {"n_gen", result.test.n_gen},
      {"n_depth", result.test.n_depth},
      {"n_parallel", result.test.n_parallel},
      {"test_time", result.test_time},
      {"avg_ns", static_cast<std::int64_t>(average(ns))},
      {"stddev_ns", static_cast<std::int64_t>(sample_deviation(ns))},
      {"avg_ts", average(ts)},
      {"stddev_ts", sample_deviation(ts)},
      {"device", subject.device},
      {"bytes_per_token", result.bytes_per_token},
      {"gb_per_s", result.gb_per_s()},
      {"bandwidth_gb_per_s", subject.bandwidth_gb_per_s},
      {"bandwidth_share", result.bandwidth_share()},
      {"load_ms", subject.load_ms},
      {"peak_rss_bytes", result.peak_rss_bytes},
      {"kv_bytes", result.kv.total()},
      {"kv_archive_bytes", result.kv.archive},
      {"kv_exact_bytes", result.kv.exact},
      {"kv_resident_bytes", result.kv.residents},
      {"kv_index_bytes", result.kv.index},
      {"kv_select", subject.kv_select},
      {"kv_budget", subject.kv_budget},
      {"kv_refresh", subject.kv_refresh},
      {"kv_inertia", subject.kv_inertia},
      {"units_read", result.units_read},
      {"units_decoded", result.units_decoded},
      {"resident_share", result.resident_share},
      {"kv_bf16_bytes", result.kv.bf16},
      {"transform_bytes", subject.plan.transform},
      {"scratch_bytes", subject.plan.scratch},
      {"prefill_bytes", subject.plan.prefill},
  };
}

std::string joined_keys(const Record& record) {
  std::string line;
  for (const auto& field : record.items()) line += (line.empty() ? "" : ",") + field.key();
  return line + "\n";
}

/// Values in quotes, as llama-bench writes them.
std::string joined_values(const Record& record) {
  std::string line;
  for (const auto& field : record.items()) {
    const std::string text =
        field.value().is_string() ? field.value().get<std::string>() : field.value().dump();
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    line += (line.empty() ? "" : ",") + quoted + "\"";
  }
  return line + "\n";
}

std::string json_object(const BenchResult& result) {
  Record record = record_of(result);
  record["samples_ns"] = result.samples_ns;
  record["samples_ts"] = result.samples_ts();
  // A file name need not be UTF-8; such bytes are replaced rather than refused.
  std::string text = record.dump(2, ' ', false, Record::error_handler_t::replace);
  std::string indented = "  ";
  for (const char c : text) indented += c == '\n' ? std::string("\n  ") : std::string(1, c);
  return indented;
}

std::string model_size(std::int64_t bytes) {
  constexpr double mib = 1024.0 * 1024.0;
  const auto size = static_cast<double>(bytes);
  return size < 1024.0 * mib ? fmt::format("{:.2f} MiB", size / mib)
                             : fmt::format("{:.2f} GiB", size / mib / 1024.0);
}

std::string parameters(std::int64_t n) {
  const auto count = static_cast<double>(n);
  return count < 1e9 ? fmt::format("{:.2f} M", count / 1e6) : fmt::format("{:.2f} B", count / 1e9);
}

std::string cell(const std::string& text, int width, bool left = false) {
  return left ? fmt::format(" {:<{}} |", text, width) : fmt::format(" {:>{}} |", text, width);
}

}  // namespace

std::vector<double> BenchResult::samples_ts() const {
  std::vector<double> rates;
  const double n_tokens = static_cast<double>(test.n_tokens()) * test.n_parallel;
  for (const std::int64_t ns : samples_ns) rates.push_back(1e9 * n_tokens / static_cast<double>(ns));
  return rates;
}

double BenchResult::gb_per_s() const {
  return bytes_per_token * average(samples_ts()) / 1e9;
}

double BenchResult::bandwidth_share() const {
  return subject.bandwidth_gb_per_s > 0.0 ? gb_per_s() / subject.bandwidth_gb_per_s : 0.0;
}

double average(const std::vector<double>& values) {
  if (values.empty()) return 0.0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double sample_deviation(const std::vector<double>& values) {
  if (values.size() < 2) return 0.0;
  const double mean = average(values);
  double squares = 0.0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

BenchReport::BenchReport(BenchFormat format, const BenchLists& lists)
    : format_(format), show_batch_(lists.n_batch.size() > 1), show_ubatch_(lists.n_ubatch.size() > 1) {}

std::string BenchReport::heading() const {
  if (format_ == BenchFormat::csv) return joined_keys(record_of({}));
  if (format_ == BenchFormat::json) return "[\n";
  std::string names = "| model                          |       size |     params | backend    | threads |";
  std::string rules = "| ------------------------------ | ---------: | ---------: | ---------- | ------: |";
  if (show_batch_) names += " n_batch |", rules += " ------: |";
  if (show_ubatch_) names += " n_ubatch |", rules += " -------: |";
  names += "            test |                  t/s |     GB/s |  share |\n";
  rules += " --------------: | -------------------: | -------: | -----: |\n";
  return names + rules;
}

std::string BenchReport::add(const BenchResult& result) {
  std::string text = empty_ ? heading() : format_ == BenchFormat::json ? ",\n" : "";
  empty_ = false;
  build_ = result.subject.build;
  if (format_ == BenchFormat::csv) return text + joined_values(record_of(result));
  if (format_ == BenchFormat::json) return text + json_object(result);
  return text + table_row(result);
}

std::string BenchReport::table_row(const BenchResult& result) const {
  const BenchSubject& subject = result.subject;
  const std::vector<double> ts = result.samples_ts();
  std::string row = "|" + cell(subject.model_type, 30, true) + cell(model_size(subject.model_size), 10) +
                    cell(parameters(subject.model_n_params), 10) + cell(subject.backend, 10, true) +
                    cell(std::to_string(subject.n_threads), 7);
  if (show_batch_) row += cell(std::to_string(result.test.n_batch), 7);
  if (show_ubatch_) row += cell(std::to_string(result.test.setup.n_ubatch), 8);
  row += cell(result.test.name(), 15) +
         cell(fmt::format("{:.2f} ± {:.2f}", average(ts), sample_deviation(ts)), 20) +
         cell(fmt::format("{:.2f}", result.gb_per_s()), 8) +
         cell(fmt::format("{:.0f} %", 100.0 * result.bandwidth_share()), 6);
  return row + "\n";
}

std::string BenchReport::end() const {
  if (format_ == BenchFormat::json) return empty_ ? "[]\n" : "\n]\n";
  if (format_ == BenchFormat::md && !empty_) return fmt::format("\nbuild: {}\n", build_);
  return "";
}

}  // namespace cga::cli
