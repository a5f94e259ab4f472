// Chunks of a perplexity run; see the header.
#include "tools/cga/commands/perplexity/plan.h"

#include <algorithm>
#include <string>

#include "cga/error.h"

namespace cga::cli {
namespace {

// Far above any context, far below what overflows.
constexpr std::int32_t max_context = 1 << 24;

void check_range(const char* option, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return;
  throw Error(
      ErrorKind::usage, option,
      std::to_string(value) + " is not between " + std::to_string(low) + " and " + std::to_string(high));
}

}  // namespace

std::int32_t chunk_length(const ChunkOptions& options) {
  check_range("-c", options.n_ctx, 2, max_context);
  check_range("--ppl-stride", options.stride, 0, options.n_ctx - 1);
  return options.n_ctx + options.stride / 2;
}

ChunkPlan plan_chunks(const ChunkOptions& options, std::int64_t n_tokens) {
  ChunkPlan plan;
  plan.length = chunk_length(options);
  if (options.score_from >= 0 && options.stride > 0) {
    throw Error(ErrorKind::usage, "--score-from", "a stride already says which tokens are scored",
                "give --score-from or --ppl-stride");
  }
  if (options.score_from >= 0) check_range("--score-from", options.score_from, 0, plan.length - 2);
  const std::int64_t needed = std::int64_t{options.min_chunks} * plan.length;
  if (n_tokens < needed) {
    throw Error(ErrorKind::usage, "-f, --ids",
                "at least " + std::to_string(needed) + " tokens are needed for chunks of " +
                    std::to_string(plan.length) + ", and the text has only " + std::to_string(n_tokens),
                "give a longer text or a smaller -c");
  }
  std::int64_t fitting = 0;
  if (options.stride > 0) {
    plan.step = options.stride;
    plan.first_scored = plan.length - 1 - options.stride;
    fitting = std::max<std::int64_t>((n_tokens - plan.length + options.stride - 1) / options.stride, 1);
  } else {
    plan.step = plan.length;
    plan.first_scored = options.score_from >= 0 ? options.score_from : plan.length / 2;
    if (plan.first_scored == plan.length - 1) plan.first_scored = 0;  // -c 2 has no second half to score
    fitting = n_tokens / plan.length;
  }
  const std::int64_t wanted = options.max_chunks < 0 ? fitting : options.max_chunks;
  check_range("--chunks", wanted, 1, max_context);
  plan.n_chunks = static_cast<std::int32_t>(std::min(wanted, fitting));
  return plan;
}

std::vector<TokenId> chunk_inputs(const ChunkPlan& plan, std::int32_t chunk,
                                  const std::vector<TokenId>& tokens, TokenId bos) {
  const auto first = tokens.begin() + plan.start(chunk);
  std::vector<TokenId> inputs(first, first + plan.length - 1);
  if (bos >= 0) inputs.front() = bos;
  return inputs;
}

}  // namespace cga::cli
