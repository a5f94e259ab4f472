// What an engine is made of. Private to src/runtime.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cache/kv_cache.h"
#include "cga/compact_cache.h"
#include "cga/compact_step.h"
#include "cga/engine.h"
#include "format/model_file.h"
#include "model/forward.h"
#include "runtime/shortlists.h"

namespace cga {

/// One ubatch in the making: rows of several sequences, in host arrays that are reused.
struct BatchBuilder {
  std::vector<std::int32_t> ids, positions, logit_rows;
  std::vector<SequenceRows> sequences;
  std::vector<CompactSequence*> compact;  // as sequences, under cga
  StepShape::Kind kind = StepShape::Kind::text;

  void clear();
  StepShape shape() const;
  Batch batch() const { return {ids, positions, logit_rows}; }
  std::int64_t n_tokens() const { return static_cast<std::int64_t>(ids.size()); }
};

/// Tokens [first, last) of a session.
struct TextSpan {
  std::size_t first = 0, last = 0;
};

struct Engine::Impl {
  EngineOptions options;
  std::unique_ptr<Backend> backend;
  std::unique_ptr<ModelFile> file;  // stays mapped: the embedding and float weights are read in place
  Model model;
  ModelInfo info;
  MemoryPlan plan;
  std::unique_ptr<Tokenizer> tokenizer;  // null for random shapes
  std::optional<std::string> chat_template;
  std::optional<Sidecar> sidecar;         // under cga; stays mapped
  std::unique_ptr<KvCache> cache;         // of any other kind
  std::unique_ptr<CompactCache> compact;  // of cga
  std::unique_ptr<Activations> activations;
  std::unique_ptr<Buffer> logits;  // [rows wanted so far at most, n_vocab], f32
  std::int64_t n_logit_rows = 0;   // of the last run
  Shortlists shortlists;           // of those rows
  BatchBuilder builder;
  std::int32_t n_sessions = 0;

  void make_cache();
  void check_room(std::span<const Feed> feeds) const;
  void reserve_logits(std::int64_t n_rows);
  /// Rows of logits of the last run, as the host reads them.
  std::span<const float> read_logits(std::int64_t first_row, std::int64_t n_rows);
  /// Feeds in pieces: rows of all of them share batches. @return rows of logits written, nullopt if stopped
  std::optional<std::int64_t> run_feeds(std::span<const Feed> feeds, const GoOn& go_on);
  /// Tokens of a feed, from `at` on, that may go into the batch in the making.
  std::size_t piece_tokens(const Feed& feed, std::size_t at) const;
  /// Appends tokens of a feed to its session and to the builder; `last`: the feed ends with them.
  void add_rows(const Feed& feed, std::span<const TokenId> tokens, bool last);
  /// Runs what the builder holds; logits go to row `first_row` on. @return rows written
  std::int64_t run_builder(std::int64_t first_row);

  /// Runs a batch that chooses what it reads by the attention of the layers that will read it: each selection
  /// group runs twice.
  void run_oracle(CompactStep& step, const Batch& batch, float* out);

  /// Whether a feed's rows are read as text, and would be read so again. A backend's bits may differ between
  /// that and decoding, so under cga a session remembers which of its tokens were text.
  bool is_text(const Feed& feed) const;
  /// Text that is read group by group, because not all of what it reads is, or will stay, exact.
  bool is_long_text(const Feed& feed) const;
  /// Runs one; logits go to row `first_row` on. @return rows written; nullopt if stopped: the session is as
  /// it was before, or empty if that cannot be had
  std::optional<std::int64_t> run_text(const Feed& feed, std::int64_t first_row, const GoOn& go_on);
  /// Makes a session what it was at `past`, after text that was not read to its end.
  void stop_text(Session::Impl& session, std::int32_t past);
  /// Reads tokens again, in the spans that they had.
  void replay(Session& session, std::span<const TokenId> tokens, std::span<const TextSpan> texts);
  /// Cuts a session back to its first n tokens, reading them again if what they need is no longer there.
  void truncate(Session& session, std::int32_t n);
};

struct Session::Impl {
  Engine::Impl* engine = nullptr;
  std::vector<TokenId> tokens;
  bool replays = false;         // text is read as text, however short
  std::vector<TextSpan> texts;  // in order: what was read as text, and would be read so again
  SequencePages pages;          // of any other kind
  CompactSequence compact;      // of cga
};

}  // namespace cga
