// The engine: a loaded model, and the sequences that run on it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "cga/error.h"
#include "cga/sampling.h"
#include "cga/tokenizer.h"

namespace cga {

/// How keys and values are kept. `cga`: exact near the end and the beginning, compressed between
/// (docs/cga.md); `automatic`: cga if the model has a sidecar and the context can grow beyond what stays
/// exact, else bf16. `q8` and `q4`, blocks of 32 values with a scale, are what cga is measured against; a
/// head must have a multiple of 32 values.
enum class KvType { automatic, bf16, f32, cga, q8, q4 };

/// How a query finds what it reads of the archive: by the sidecar's index (`automatic`, if there is one), by
/// the attention mass itself (`oracle`: slow, to evaluate an index), or not at all: it reads everything.
enum class KvSelect { automatic, all, index, oracle };

struct EngineOptions {
  std::filesystem::path model;    ///< GGUF file; ignored when `shape` is set
  std::string shape;              ///< a named shape with random weights ("llama3-8b:BF16"), for speed only
  std::string device = "auto";    ///< auto: the first GPU if there is one | cpu | cuda | cuda:N | scalar
  std::int64_t memory_limit = 0;  ///< bytes of the device that may be used; 0: all there are
  bool exact = false;             ///< products in f32 throughout (slow on a GPU), to compare backends
  std::int32_t n_ctx = 0;         ///< context of one sequence, in tokens; 0: what the model was trained with
  std::int32_t n_sequences = 1;   ///< sequences that may be alive at once
  std::int32_t n_ubatch = 512;    ///< tokens that go through the layers at once
  std::int32_t n_threads = 0;     ///< 0: all cores
  KvType kv = KvType::automatic;

  // For `cga`; what is left out comes from the sidecar.
  std::filesystem::path sidecar;     ///< empty: `<stem of model>.cga` beside the model
  double kv_bits = 0;                ///< of a value in the archive, at most 8; 0: default
  std::int32_t kv_window = -1;       ///< last tokens that are exact, a multiple of 64; -1: default
  std::int32_t kv_sparse_from = -1;  ///< shorter contexts are exact, a multiple of 64; -1: default
  KvSelect kv_select = KvSelect::automatic;
  std::int32_t kv_budget = -1;   ///< archived tokens that a query reads, a multiple of 16; -1: default
  std::int32_t kv_by_need = -1;  ///< 1: a query reads as much as it needs, kv_budget on the mean; -1: default
  std::int32_t kv_refresh = -1;  ///< tokens that share a choice: 1, 2, 4 … 64; -1: default
  float kv_inertia = -1;         ///< nats of score by which a choice holds on to the one before; -1: default
  std::int32_t kv_followup_from =
      -1;                          ///< later text of fewer tokens is read like generated text; -1: default
  bool keeps_marked = false;       ///< room to go back to Session::mark() without reading again
  std::int32_t kv_residents = -1;  ///< archived tokens that are kept decoded, a sequence; -1: default

  std::function<void(double)> progress;  ///< called while loading with the share done, in [0, 1]
  std::function<void(const std::string&)>
      warn;  ///< told what is passed over, such as a sidecar that does not fit
};

/// What a model is, as its file says.
struct ModelInfo {
  std::string name, architecture, weight_types;  // weight_types: "Q4_1, Q8_0, F32"
  std::string file_type;                         // the type most weights have: "Q4_1"
  std::int64_t n_params = 0;
  std::int64_t weight_bytes = 0;  // of all tensors in the file
  std::int32_t n_layers = 0, dim = 0, n_heads = 0, n_kv_heads = 0, head_dim = 0, ffn_dim = 0, n_vocab = 0;
  std::int32_t n_ctx_train = 0;
  std::string device;  // the backend in use
};

/// Bytes a configuration takes, planned before anything is allocated.
struct MemoryPlan {
  std::int32_t n_ctx = 0, n_sequences = 0;
  std::int64_t weights = 0;       // as prepared by the backend
  std::int64_t kv = 0;            // all sequences at n_ctx: the sum of the five that follow
  std::int64_t kv_exact = 0;      // exact tokens
  std::int64_t kv_archive = 0;    // coded ones
  std::int64_t kv_residents = 0;  // coded ones that are kept decoded beside
  std::int64_t kv_index = 0;      // the index's keys
  std::int64_t kv_kept = 0;       // exact tokens that are coded too, kept for going back
  std::int64_t kv_bf16 = 0;       // what a plain bf16 cache of the same context takes
  std::int64_t transform = 0;     // of codec and index: shared by all sequences
  std::int64_t scratch = 0;       // activations, logits, pages on their way through the codec
  std::int64_t prefill = 0;       // beside all that, while a prompt as long as the context is read
  std::int64_t total() const { return weights + kv + transform + scratch + prefill; }
};

/// Bytes that the keys and values of one sequence take.
struct KvUsage {
  std::int64_t exact = 0, archive = 0, residents = 0, index = 0;
  std::int64_t kept = 0;  // exact tokens that are coded too, kept for going back
  std::int64_t bf16 = 0;  // a plain bf16 cache of the same tokens
  std::int64_t total() const { return exact + archive + residents + index + kept; }
};

/// What choosing and reusing did since the engine was made, or the counts were reset: sums over queries and
/// selection groups, in units of 16 tokens.
struct KvReuse {
  std::int64_t choices = 0;        // queries, times selection groups
  std::int64_t chosen = 0;         // units they read of the archive
  std::int64_t eligible = 0;       // units they could have read
  std::int64_t needed = 0;         // units that steps needed, each once a step and selection group
  std::int64_t decoded = 0;        // of these, those that were not resident
  std::int64_t decoded_bytes = 0;  // of codes that were read for that
  std::int64_t index_bytes = 0;    // of index keys that were read to choose
};

/// The plan for these options, from the model's header alone: nothing is loaded or allocated.
/// @throws Error as loading would, up to the point where memory is needed
MemoryPlan plan_memory(const EngineOptions& options);

class Session;

/// One sequence's tokens in a batch, and which of its logits are wanted.
struct Feed {
  enum class Want { none, last, all };
  /// Text that is read (prompt) reads itself exactly, however long, and what came before it whole, exact
  /// where it was exact when the text began; it must be fed at once. Generated text, and later text shorter
  /// than kv_followup_from, reads what is older than the window as decoding does: what it chooses from the
  /// archive.
  enum class Span { prompt, generated };
  Session* session = nullptr;
  std::span<const TokenId> tokens;
  Want want = Want::last;
  Span span = Span::prompt;
};

/// Told now and then how many of a run's tokens are done; says whether to go on.
using GoOn = std::function<bool(std::int64_t tokens_done)>;

/// A model ready to run. Calls on one engine must not overlap.
class Engine {
 public:
  /// Loads the model. @throws Error (bad_file, memory, device, usage)
  explicit Engine(const EngineOptions& options);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  const ModelInfo& info() const;
  const MemoryPlan& plan() const;
  const EngineOptions& options() const;  ///< with defaults resolved: n_ctx, n_threads

  /// @throws Error (usage) for random shapes, which have none
  const Tokenizer& tokenizer() const;
  /// The template the model file carries; nullopt if none.
  const std::optional<std::string>& chat_template() const;

  /// Runs the tokens of each feed through the model, appending them to their sessions.
  /// Feeds larger than n_ubatch are split; results do not depend on how.
  /// @param go_on  false: stop. Sessions keep the tokens that were read, none of a prompt that was not done,
  ///               and no logits are returned
  /// @return the wanted logits, [n_rows, n_vocab] f32, feeds in order; valid until the next call
  /// @throws Error (memory) if a session would exceed its context; nothing is appended then
  std::span<const float> run(std::span<const Feed> feeds, const GoOn& go_on = {});

  /// As run, but leaves the wanted logits on the device, and may return before they are there: to sample
  /// from.
  /// @return their rows, feeds in order, which hold until the next run or feed; 0 if stopped
  std::int64_t feed(std::span<const Feed> feeds, const GoOn& go_on = {});

  /// The token that `sampler` picks from one of the rows: token for token what it would pick from
  /// logits(row), though on a device few rows have to be brought back whole for that.
  /// @throws Error (bad_file) naming the row if one of its logits is not a number; other rows can be sampled
  TokenId sample(std::int64_t row, Sampler& sampler);

  /// One of the rows, [n_vocab] f32; valid until the next call.
  std::span<const float> logits(std::int64_t row);

  /// What the keys and values of a sequence of n_tokens take.
  KvUsage kv_usage(std::int32_t n_tokens) const;

  KvReuse kv_reuse() const;
  void reset_kv_reuse();

  /// Bytes one decode step at `n_past` tokens must read: weights, cached keys and values, and the codes and
  /// transforms of those that are decoded for it.
  std::int64_t decode_bytes(std::int32_t n_past) const;
  /// Reads the weights once with all threads: the memory bandwidth of this machine, bytes per second.
  double measure_bandwidth() const;

 private:
  friend class Session;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// One sequence: its tokens and its KV cache. Must not outlive its engine.
class Session {
 public:
  /// @throws Error (memory) when n_sequences sessions are alive already
  explicit Session(Engine& engine);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  std::span<const TokenId> tokens() const;  ///< everything in the context, in order
  std::int32_t n_past() const;              ///< tokens().size()
  std::int32_t n_ctx() const;

  /// Going back to here, or to anything later, will not take reading again, as long as no more than a window
  /// of tokens follows. Only one mark counts: the last. Without EngineOptions::keeps_marked, it does nothing.
  void mark();

  /// Forgets everything from position `n` on. If tokens that must be exact there are coded already, the
  /// first n tokens are read again. @throws Error (usage) if n > n_past()
  void truncate(std::int32_t n);

 private:
  friend class Engine;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cga
