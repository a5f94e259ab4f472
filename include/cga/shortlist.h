// What is brought back of a row of logits to sample from it where logits lie on a device: its likeliest
// tokens, and what all the others amount to.
#pragma once

#include <cstdint>
#include <span>

#include "cga/tokenizer.h"

namespace cga {

/// A token and its logit.
struct Candidate {
  TokenId id = 0;
  float logit = 0.0f;
};

/// What a whole row of logits amounts to.
struct LogitSummary {
  double sum = 0.0;                ///< of exp(logit - the highest one)
  std::int32_t first_invalid = 0;  ///< the lowest id whose logit is NaN or +inf; -1: there is none
  float invalid = 0.0f;            ///< that logit
};

/// The likeliest tokens of a row, likeliest first, ties to the lower id, so that every other token comes
/// after the last one; -0 counts as 0. If a logit is NaN or +inf, only first_invalid and invalid say
/// anything.
struct Shortlist {
  std::span<const Candidate> likeliest;
  LogitSummary summary;
  std::int32_t n_vocab = 0;
};

}  // namespace cga
