// HellaSwag: how often the model finds the right one of four endings likeliest, by the mean log-probability
// of an ending's tokens (acc_norm). Conventions are those of `llama-perplexity --hellaswag`.
#pragma once

#include <cstdint>
#include <filesystem>

#include "tools/cga/options.h"

namespace cga::cli {

struct HellaswagOptions {
  ModelOptions model;  // n_ctx: the tokens a task may have
  std::filesystem::path tasks;
  std::int32_t n_tasks = 400;
  std::filesystem::path save_scores;  // a line a task, to compare two runs by; empty: not kept
};

/// Runs the tasks; returns the exit code.
int run_hellaswag(const HellaswagOptions& options, Context& context);

}  // namespace cga::cli
