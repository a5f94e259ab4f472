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
#include "cga/tokenizer.h"

namespace cga {

enum class KvType { bf16, f32 };

struct EngineOptions {
  std::filesystem::path model;   ///< GGUF file; ignored when `shape` is set
  std::string shape;             ///< a named shape with random weights ("llama3-8b"), for speed only
  std::string device = "auto";   ///< auto | cpu | scalar
  std::int32_t n_ctx = 0;        ///< context of one sequence, in tokens; 0: what the model was trained with
  std::int32_t n_sequences = 1;  ///< sequences that may be alive at once
  std::int32_t n_ubatch = 512;   ///< tokens that go through the layers at once
  std::int32_t n_threads = 0;    ///< 0: all cores
  KvType kv = KvType::bf16;
  std::function<void(double)> progress;  ///< called while loading with the share done, in [0, 1]
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
  std::int64_t weights = 0;  // as prepared by the backend
  std::int64_t kv = 0;       // all sequences at n_ctx
  std::int64_t kv_bf16 = 0;  // what a plain bf16 cache of the same context takes
  std::int64_t scratch = 0;  // activations and logits
  std::int64_t total() const { return weights + kv + scratch; }
};

/// The plan for these options, from the model's header alone: nothing is loaded or allocated.
/// @throws Error as loading would, up to the point where memory is needed
MemoryPlan plan_memory(const EngineOptions& options);

class Session;

/// One sequence's tokens in a batch, and which of its logits are wanted.
struct Feed {
  enum class Want { none, last, all };
  Session* session = nullptr;
  std::span<const TokenId> tokens;
  Want want = Want::last;
};

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
  /// @return the wanted logits, [n_rows, n_vocab] f32, feeds in order; valid until the next call
  /// @throws Error (memory) if a session would exceed its context; nothing is appended then
  std::span<const float> run(std::span<const Feed> feeds);

  /// Bytes one decode step at `n_past` tokens must read: weights and cached keys and values.
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

  /// Forgets everything from position `n` on. @throws Error (usage) if n > n_past()
  void truncate(std::int32_t n);

 private:
  friend class Engine;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cga
