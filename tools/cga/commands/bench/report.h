// What a benchmark found, and its three renderings. Field names are llama-bench's, and ours after them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cga/engine.h"
#include "tools/cga/commands/bench/plan.h"

namespace cga::cli {

/// What is the same for all tests of one loaded engine.
struct BenchSubject {
  std::string build, cpu_info, backend, device;
  std::string model_filename, model_type;
  std::int64_t model_size = 0, model_n_params = 0;
  std::string kv_type, kv_select;
  std::int32_t kv_budget = 0, kv_refresh = 0;  // tokens; 0: everything is read
  float kv_inertia = 0;                        // nats
  std::int32_t n_threads = 0;                  // in use
  MemoryPlan plan;
  double load_ms = 0;
  double bandwidth_gb_per_s = 0;  // reading memory with these threads
};

struct BenchResult {
  BenchSubject subject;
  BenchTest test;
  std::string test_time;                 // RFC 3339, UTC
  std::vector<std::int64_t> samples_ns;  // [repetitions]
  double bytes_per_token = 0;            // least that must be read from memory: weights and cache
  KvUsage kv;                            // keys and values at the end
  // Under cga, of a query in a selection group: units it read of the archive, units that were decoded for it,
  // and the share of those needed that were resident.
  double units_read = 0, units_decoded = 0, resident_share = 0;
  std::int64_t peak_rss_bytes = 0;  // of loading and this test

  std::vector<double> samples_ts() const;  ///< tokens per second
  double gb_per_s() const;
  double bandwidth_share() const;  ///< of what this machine's memory delivers
};

double average(const std::vector<double>& values);
double sample_deviation(const std::vector<double>& values);  ///< 0 below two values

enum class BenchFormat { md, csv, json };

/// Renders results one after the other: the text of each is complete when its test is.
class BenchReport {
 public:
  /// `lists` decides which columns a table needs.
  BenchReport(BenchFormat format, const BenchLists& lists);

  std::string add(const BenchResult& result);  ///< the first with a heading
  std::string end() const;

 private:
  std::string heading() const;
  std::string table_row(const BenchResult& result) const;

  BenchFormat format_;
  bool show_batch_, show_ubatch_;
  bool empty_ = true;
  std::string build_;
};

}  // namespace cga::cli
