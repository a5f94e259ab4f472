// The one line every run ends with: how fast, how near to what the memory allows, and a fingerprint of the
// last logits by which two runs can be compared.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "cga/engine.h"

namespace cga::cli {

/// FNV-1a (64 bit) over the bytes of the values.
std::uint64_t hash_bits(std::span<const float> values);

/// What a run did. Prompt and generation are counted apart: one is bound by arithmetic, the other by memory.
struct RunStats {
  std::int64_t prompt_tokens = 0;  // that went through the model
  std::int64_t reused_tokens = 0;  // of prompts, that were in the cache already
  double prompt_seconds = 0;
  std::int64_t decode_steps = 0;  // generated tokens that went through the model
  std::int64_t decode_bytes = 0;  // that those steps had to read
  double decode_seconds = 0;
  std::int64_t generated_tokens = 0;
  std::int32_t n_past = 0;  // tokens in the context at the end
  std::optional<std::uint64_t> logits_hash;

  void add(const RunStats& other);  ///< sums; `n_past` and the hash are the other's

  double prompt_rate() const;       ///< tokens per second; 0 if there were none
  double decode_rate() const;       ///< tokens per second; 0 if there were none
  double decode_bandwidth() const;  ///< bytes per second; 0 if there were none
};

/// What choosing from the archive did so far: "a query read 64 of 486 units …". Empty if nothing was chosen.
std::string reuse_text(const Engine& engine);

/// "prompt 31 tokens, 412.3 tokens/s; generated 64, 98.1 tokens/s, 9.6 GB/s (71 % of 13.5 GB/s); KV …".
/// Measures the memory bandwidth if there is something to compare with it.
std::string stats_line(const Engine& engine, const RunStats& stats);

}  // namespace cga::cli
