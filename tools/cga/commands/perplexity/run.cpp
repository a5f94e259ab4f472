// The chunk loop; see the header.
#include "tools/cga/commands/perplexity/run.h"

#include <algorithm>
#include <optional>

#include "tools/cga/console.h"

namespace cga::cli {
namespace {

/// One chunk on its way through the engines.
struct Lane {
  std::int32_t chunk = 0;
  std::vector<TokenId> inputs;  // [plan.length - 1]
};

/// An engine with a session for each lane.
struct Side {
  Engine& engine;
  std::vector<Session> sessions;

  Side(Engine& of, std::size_t n_lanes) : engine(of) {
    for (std::size_t i = 0; i < n_lanes; ++i) sessions.emplace_back(of);
  }
  void forget() {
    for (Session& session : sessions) session.truncate(0);
  }
};

/// The same rows of several chunks.
struct Piece {
  std::int32_t from = 0, to = 0;
  Feed::Want want = Feed::Want::none;

  std::size_t n_rows() const { return static_cast<std::size_t>(to - from); }
};

/// Runs a piece of all lanes as one batch. The only place that makes feeds: the text is read as if it had
/// been generated, each token from what the cache keeps of those before it.
std::span<const float> run_piece(Side& side, std::span<const Lane> lanes, const Piece& piece) {
  std::vector<Feed> feeds;
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const std::span<const TokenId> inputs = lanes[i].inputs;
    feeds.push_back({&side.sessions[i], inputs.subspan(static_cast<std::size_t>(piece.from), piece.n_rows()),
                     piece.want, Feed::Span::generated});
  }
  return side.engine.run(feeds);
}

/// The run of chunks: its engines, and what it has done.
class Runner {
 public:
  Runner(const Engines& engines, std::int32_t n_lanes)
      : tested_(engines.tested, static_cast<std::size_t>(n_lanes)) {
    if (engines.full != nullptr) full_.emplace(*engines.full, static_cast<std::size_t>(n_lanes));
  }

  void forget() {
    tested_.forget();
    if (full_) full_->forget();
  }

  struct Logits {
    std::span<const float> tested, full;  // [lanes, rows, n_vocab]
  };

  Logits run(std::span<const Lane> lanes, const Piece& piece) {
    const Stopwatch watch;
    Logits logits;
    logits.tested = run_piece(tested_, lanes, piece);
    stats_.prompt_seconds += watch.seconds();
    stats_.prompt_tokens += static_cast<std::int64_t>(piece.n_rows() * lanes.size());
    stats_.n_past = piece.to;
    const auto n_vocab = static_cast<std::size_t>(tested_.engine.info().n_vocab);
    if (!logits.tested.empty()) stats_.logits_hash = hash_bits(logits.tested.last(n_vocab));
    if (full_) logits.full = run_piece(*full_, lanes, piece);
    return logits;
  }

  const RunStats& stats() const { return stats_; }

 private:
  Side tested_;
  std::optional<Side> full_;
  RunStats stats_;
};

/// Scores the rows of a piece, chunk after chunk. A chunk ends with its own last row and not with the piece:
/// what it reports must not depend on which chunks go through the engine together.
void score_piece(const ChunkPlan& plan, const std::vector<TokenId>& tokens, std::span<const Lane> lanes,
                 const Runner::Logits& logits, const Piece& piece, Scorer& scorer) {
  const auto of_lane = [&](std::span<const float> all, std::size_t i) {
    const std::size_t n = all.size() / lanes.size();
    return all.subspan(i * n, n);
  };
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const std::int32_t chunk = lanes[i].chunk;
    ScoredRows rows;
    rows.first = std::int64_t{chunk} * plan.n_scored() + piece.from - plan.first_scored;
    rows.logits = of_lane(logits.tested, i);
    rows.full = of_lane(logits.full, i);
    rows.targets = std::span(tokens).subspan(static_cast<std::size_t>(plan.start(chunk) + piece.from + 1),
                                             piece.n_rows());
    scorer.score(rows);
    if (piece.to == plan.length - 1) scorer.finish_chunk(chunk);
  }
}

/// The pieces of one chunk, in order: first those that are only read, then those that are scored.
std::vector<Piece> pieces_of(const ChunkPlan& plan, std::int32_t piece) {
  std::vector<Piece> pieces;
  const auto cut = [&](std::int32_t from, std::int32_t end, Feed::Want want) {
    for (; from < end; from += piece) pieces.push_back({from, std::min(from + piece, end), want});
  };
  cut(0, plan.first_scored, Feed::Want::none);
  cut(plan.first_scored, plan.length - 1, Feed::Want::all);
  return pieces;
}

}  // namespace

std::int32_t chunks_at_once(std::int32_t length, std::int32_t n_ubatch) {
  return std::max(n_ubatch / length, 1);
}

ChunkRun run_chunks(const Engines& engines, const ChunkPlan& plan, const std::vector<TokenId>& tokens,
                    TokenId bos, Scorer& scorer, const AfterPiece& go_on) {
  // Chunks that go together fit in one ubatch: they need one piece each way, and their rows stay in order.
  const std::int32_t n_ubatch = engines.tested.options().n_ubatch;
  const std::int32_t at_once = chunks_at_once(plan.length, n_ubatch);
  const std::vector<Piece> pieces = pieces_of(plan, n_ubatch / at_once);
  Runner runner(engines, std::min(at_once, plan.n_chunks));
  for (std::int32_t first = 0; first < plan.n_chunks; first += at_once) {
    const std::int32_t after = std::min(first + at_once, plan.n_chunks);
    std::vector<Lane> lanes;
    for (std::int32_t chunk = first; chunk < after; ++chunk)
      lanes.push_back({chunk, chunk_inputs(plan, chunk, tokens, bos)});
    runner.forget();
    for (const Piece& piece : pieces) {
      const Runner::Logits logits = runner.run(lanes, piece);
      if (piece.want == Feed::Want::all) score_piece(plan, tokens, lanes, logits, piece, scorer);
      const bool ended = piece.to == plan.length - 1;
      const bool complete = ended && after == plan.n_chunks;
      if (!go_on(ended ? after : first) || complete) return {complete, runner.stats()};
    }
  }
  return {false, runner.stats()};
}

}  // namespace cga::cli
