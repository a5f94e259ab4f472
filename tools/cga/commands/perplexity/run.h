// Runs the chunks of a text through the engine in pieces of at most n_ubatch tokens, and hands each piece's
// logits to a scorer before the next overwrites them: memory follows the piece, never the context.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "cga/engine.h"
#include "tools/cga/commands/perplexity/plan.h"
#include "tools/cga/stats.h"

namespace cga::cli {

/// Consecutive scored rows of one chunk.
struct ScoredRows {
  std::int64_t first = 0;            // the first one's number among all scored rows of the run
  std::span<const float> logits;     // [n_rows, n_vocab], f32
  std::span<const float> full;       // likewise, of full attention; empty if it does not run beside
  std::span<const TokenId> targets;  // [n_rows]: the tokens that came next
};

class Scorer {
 public:
  virtual ~Scorer() = default;
  virtual void score(const ScoredRows& rows) = 0;     // rows arrive in order
  virtual void finish_chunk(std::int32_t chunk) = 0;  // all rows of this chunk were scored
};

/// What a text is run through.
struct Engines {
  Engine& tested;
  Engine* full = nullptr;  // full attention over the same chunks beside it, to compare with; null: none
};

/// Chunks of this length that go through the engine together: as many as fit in a ubatch.
std::int32_t chunks_at_once(std::int32_t length, std::int32_t n_ubatch);

/// Told after each piece how many chunks are done; says whether to go on.
using AfterPiece = std::function<bool(std::int32_t chunks_done)>;

struct ChunkRun {
  bool complete = false;  // all chunks were run
  RunStats stats;
};

/// @param tokens     at least plan.n_tokens()
/// @param engines    with chunks_at_once() sequences of at least plan.length - 1 tokens, and one n_ubatch
/// @param go_on      asked after every piece; false: stop
/// @return           the tested engine's statistics
ChunkRun run_chunks(const Engines& engines, const ChunkPlan& plan, const std::vector<TokenId>& tokens,
                    TokenId bos, Scorer& scorer, const AfterPiece& go_on);

}  // namespace cga::cli
