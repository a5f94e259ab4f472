// One row of logits reduced to the few numbers that are kept of it, and its coding for a base file: 16 bits a
// vocabulary entry, linear below the row's maximum.
//
// A code c stands for the logit maximum - c * step, with step = min(maximum - minimum, 40) / 65535. The coded
// row is renormalised when it is read, so errors e of its logits cost a model compared with itself about
// var(e) / 2, at most step² / 24 = 1.6e-8 nats of KL divergence a row; between different models they add
// noise of mean zero. Entries more than 40 nats below the maximum are raised to that level, which adds less
// than n_vocab * e⁻⁴⁰ of mass, nothing beside the rest.
#pragma once

#include <cstdint>
#include <span>

#include "cga/tokenizer.h"
#include "tools/cga/commands/perplexity/statistics.h"

namespace cga::cli {

/// Head of a coded row; the codes follow it in the file.
struct CodedRowHead {
  double nll = 0;        // of the row's target, uncoded
  float step = 0;        // logits between neighbouring codes
  std::int32_t top = 0;  // the most likely token (the lowest of equals): codes may tie
};
static_assert(sizeof(CodedRowHead) == 16);

struct RowSummary {
  double maximum = 0;
  double log_sum = 0;  // log Σ exp(logit - maximum)
  float minimum = 0;
  std::int32_t top = 0;  // the lowest of equals
};

/// logits: [n_vocab], f32
RowSummary summarize_row(std::span<const float> logits);

/// -log softmax(logits)[target], in nats; not finite if a logit is NaN.
double negative_log_likelihood(std::span<const float> logits, TokenId target);

/// Codes a row; codes stay as they are if its nll is not finite.  logits, codes: [n_vocab]
CodedRowHead encode_row(std::span<const float> logits, TokenId target, std::span<std::uint16_t> codes);

/// Compares a row of this model with the base's coded row for the same target, in one pass.
/// logits, codes: [n_vocab]
RowComparison compare_row(std::span<const float> logits, TokenId target, const CodedRowHead& base,
                          std::span<const std::uint16_t> codes);

/// Compares it with a row that was not coded: 0 exactly if both are the same.  logits, base: [n_vocab]
RowComparison compare_row(std::span<const float> logits, TokenId target, std::span<const float> base);

}  // namespace cga::cli
