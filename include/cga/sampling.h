// How the next token is chosen from the logits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "cga/shortlist.h"
#include "cga/tokenizer.h"

namespace cga {

/// Settings in llama.cpp's terms and with its defaults. The chain is: penalties, top-k, top-p, min-p,
/// temperature, draw.
struct SamplingOptions {
  float temperature = 0.8f;         ///< 0 or less: greedy (ties go to the lower id)
  std::int32_t top_k = 40;          ///< 0: off
  float top_p = 0.95f;              ///< 1: off
  float min_p = 0.05f;              ///< 0: off
  float repeat_penalty = 1.0f;      ///< 1: off
  float presence_penalty = 0.0f;    ///< 0: off
  float frequency_penalty = 0.0f;   ///< 0: off
  std::int32_t repeat_last_n = 64;  ///< tokens the penalties look back over; -1: all
  std::uint64_t seed = 0;           ///< same seed, same text
};

/// Draws tokens; holds the random state and the recent tokens of one sequence.
class Sampler {
 public:
  /// @throws Error (usage) naming the option that is out of range
  explicit Sampler(const SamplingOptions& options);
  ~Sampler();
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;

  /// @param logits  [n_vocab], f32
  /// @throws Error (bad_file) if one is NaN or +inf, or none is above -inf
  TokenId sample(std::span<const float> logits);

  /// Picks the very token that all logits would give, and draws as many random numbers.
  /// @return nullopt if the shortlist does not decide it: nothing has changed then
  /// @throws Error as from all logits
  std::optional<TokenId> sample(const Shortlist& list);

  /// Tokens a shortlist should have for these options and the tokens so far. With as many it decides; if that
  /// is `longest`, it often does.
  /// @return 0: no shortlist of at most `longest` tokens can be expected to decide
  std::int32_t shortlist_size(std::int32_t longest) const;

  /// Tells the penalties about a token of the sequence (prompt tokens and sampled ones).
  void accept(TokenId id);

  const SamplingOptions& options() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace cga
