// The chunk loop; see the header.
#include "tools/cga/commands/perplexity/run.h"

#include <algorithm>

#include "tools/cga/console.h"

namespace cga::cli {
namespace {

/// One chunk on its way through the engine.
struct Lane {
  Session session;
  std::int32_t chunk = 0;
  std::vector<TokenId> inputs;  // [plan.length - 1]
};

void begin_chunks(const ChunkPlan& plan, const std::vector<TokenId>& tokens, TokenId bos, std::int32_t first,
                  std::span<Lane> lanes) {
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    lanes[i].session.truncate(0);
    lanes[i].chunk = first + static_cast<std::int32_t>(i);
    lanes[i].inputs = chunk_inputs(plan, lanes[i].chunk, tokens, bos);
  }
}

/// The same rows of several chunks.
struct Piece {
  std::int32_t from = 0, to = 0;
  Feed::Want want = Feed::Want::none;
};

/// Runs a piece of all lanes as one batch.
std::span<const float> run_piece(Engine& engine, std::span<Lane> lanes, const Piece& piece, RunStats& stats) {
  const auto n_rows = static_cast<std::size_t>(piece.to - piece.from);
  std::vector<Feed> feeds;
  for (Lane& lane : lanes) {
    const std::span<const TokenId> inputs = lane.inputs;
    feeds.push_back({&lane.session, inputs.subspan(static_cast<std::size_t>(piece.from), n_rows), piece.want,
                     Feed::Span::generated});
  }
  const Stopwatch watch;
  const std::span<const float> logits = engine.run(feeds);
  stats.prompt_seconds += watch.seconds();
  stats.prompt_tokens += static_cast<std::int64_t>(n_rows * lanes.size());
  stats.n_past = piece.to;
  const auto n_vocab = static_cast<std::size_t>(engine.info().n_vocab);
  if (!logits.empty()) stats.logits_hash = hash_bits(logits.last(n_vocab));
  return logits;
}

/// Scores the rows of a piece, chunk after chunk. A chunk ends with its own last row and not with the piece:
/// what it reports must not depend on which chunks go through the engine together.
void score_piece(const ChunkPlan& plan, const std::vector<TokenId>& tokens, std::span<const Lane> lanes,
                 std::span<const float> logits, const Piece& piece, Scorer& scorer) {
  const std::size_t n_logits = logits.size() / lanes.size();
  const auto n_rows = static_cast<std::size_t>(piece.to - piece.from);
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const std::int32_t chunk = lanes[i].chunk;
    ScoredRows rows;
    rows.first = std::int64_t{chunk} * plan.n_scored() + piece.from - plan.first_scored;
    rows.logits = logits.subspan(i * n_logits, n_logits);
    rows.targets =
        std::span(tokens).subspan(static_cast<std::size_t>(plan.start(chunk) + piece.from + 1), n_rows);
    scorer.score(rows);
    if (piece.to == plan.length - 1) scorer.finish_chunk(chunk);
  }
}

}  // namespace

std::int32_t chunks_at_once(std::int32_t length, std::int32_t n_ubatch) {
  return std::max(n_ubatch / length, 1);
}

ChunkRun run_chunks(Engine& engine, const ChunkPlan& plan, const std::vector<TokenId>& tokens, TokenId bos,
                    Scorer& scorer, const AfterPiece& go_on) {
  // Chunks that go together fit in one ubatch: they need one piece each way, and their rows stay in order.
  const std::int32_t at_once = chunks_at_once(plan.length, engine.options().n_ubatch);
  const std::int32_t piece = engine.options().n_ubatch / at_once;
  const std::int32_t n_inputs = plan.length - 1;
  std::vector<Lane> lanes;
  for (std::int32_t i = 0; i < std::min(at_once, plan.n_chunks); ++i)
    lanes.push_back({Session(engine), 0, {}});

  ChunkRun run;
  for (std::int32_t first = 0; first < plan.n_chunks; first += at_once) {
    const std::int32_t n = std::min(at_once, plan.n_chunks - first);
    const std::span<Lane> active = std::span(lanes).first(static_cast<std::size_t>(n));
    begin_chunks(plan, tokens, bos, first, active);
    for (std::int32_t from = 0; from < plan.first_scored; from += piece) {
      const std::int32_t to = std::min(from + piece, plan.first_scored);
      run_piece(engine, active, {from, to, Feed::Want::none}, run.stats);
      if (!go_on(first)) return run;
    }
    for (std::int32_t from = plan.first_scored; from < n_inputs; from += piece) {
      const Piece scored{from, std::min(from + piece, n_inputs), Feed::Want::all};
      score_piece(plan, tokens, active, run_piece(engine, active, scored, run.stats), scored, scorer);
      if (scored.to < n_inputs && !go_on(first)) return run;
    }
    run.complete = first + n == plan.n_chunks;
    if (!go_on(first + n)) return run;
  }
  return run;
}

}  // namespace cga::cli
