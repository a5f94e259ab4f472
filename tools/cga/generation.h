// Prompt in, text out: the loop that `generate` and `chat` share.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cga/engine.h"
#include "cga/sampling.h"
#include "tools/cga/context.h"
#include "tools/cga/stats.h"

namespace cga::cli {

struct GenerationOptions {
  std::int32_t n_predict = -1;     // tokens at most; -1: until the model ends or the context is full
  std::vector<std::string> stops;  // the text ends before any of these
  std::int32_t n_batch = 256;      // prompt tokens between two looks at Ctrl-C
  bool marks = true;               // going back to the end of the prompt shall be cheap
  bool stats = false;              // tell what choosing from the archive did
};

/// -n, --stop and --stats
void add_generation_options(CLI::App& command, GenerationOptions& options);

enum class FinishReason { end, stop, length, context_full, interrupted };
std::string_view name_of(FinishReason reason);  ///< "end", "stop", "length", "context_full", "interrupted"

struct Generated {
  FinishReason reason = FinishReason::end;
  std::string text;             // as shown
  std::vector<TokenId> tokens;  // as sampled, without the one that ended the text
  RunStats stats;
};

using TextSink = std::function<void(std::string_view)>;

/// Appends text to a session as far as there is time for before a signal, with progress.
void read_text(Engine& engine, Session& session, std::span<const TokenId> tokens,
               const GenerationOptions& options, const Context& context, RunStats& stats);

/// Makes `session` hold `prompt`, reusing the tokens it begins with already, and continues it.
/// Must run inside an Interrupts::Polling; a pending signal ends the run (interrupted) and stays pending.
/// @throws Error (usage) with both counts if the prompt does not fit
Generated generate_text(Engine& engine, Session& session, std::span<const TokenId> prompt, Sampler& sampler,
                        const GenerationOptions& options, const TextSink& sink, const Context& context);

}  // namespace cga::cli
