// Times the tests of a benchmark on a loaded engine.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cga/engine.h"
#include "tools/cga/commands/bench/report.h"

namespace cga::cli {

struct MeasureOptions {
  std::int32_t repetitions = 5;
  bool warm_up = true;
  std::string text;                             // file that tokens are taken from; empty: random ones
  std::function<bool()> go_on;                  // asked between steps; false: give up
  std::function<void(const std::string&)> say;  // what is being done
};

/// Most memory the process has held since it began, or since `reset_peak_memory`; 0 where the system does not
/// tell.
std::int64_t peak_memory();
void reset_peak_memory();

/// Name of the processor; empty where the system does not tell.
std::string cpu_name();

/// Runs one test. The cache is filled to the test's depth once and cut back to it between repetitions.
/// Tokens are random: time does not depend on what they are.
/// @return nullopt if it was given up
std::optional<BenchResult> measure(Engine& engine, const BenchSubject& subject, const BenchTest& test,
                                   const MeasureOptions& options);

}  // namespace cga::cli
