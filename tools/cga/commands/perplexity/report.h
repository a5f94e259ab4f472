// The lines of a perplexity run, in llama.cpp's formats, so that scripts written for it keep working.
#pragma once

#include <cstdint>
#include <string>

#include "tools/cga/commands/perplexity/statistics.h"

namespace cga::cli {

std::string running_estimate(std::int32_t chunk, const Moments& nll);  ///< "[7]22.1234,"
std::string final_estimate(const Moments& nll);  ///< "Final estimate: PPL = 22.5836 +/- 0.68431"

std::string comparison_heading();
std::string running_comparison(std::int32_t chunk, const ComparisonTotals& totals);
/// Perplexity, divergence and token-probability statistics, a number a line.
std::string comparison_summary(const ComparisonTotals& totals);

std::string accuracy_heading();
std::string running_accuracy(std::int64_t hits, std::int64_t count);  ///< a row of a table, with tabs
/// "Final accuracy: 34.25 % [29.77 %, 39.03 %] (95 %), 137 of 400"
std::string final_accuracy(std::int64_t hits, std::int64_t count);

/// "1.23 seconds per pass - ETA 0.82 minutes"
std::string time_estimate(double seconds_per_pass, double passes);

}  // namespace cga::cli
