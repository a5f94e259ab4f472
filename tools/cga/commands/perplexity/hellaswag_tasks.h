// HellaSwag tasks in llama.cpp's file format: six lines a task, a context, the number of the right ending
// (0-3), and four endings. Which tasks a run takes, and in which order, is llama.cpp's draw.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cga/tokenizer.h"

namespace cga::cli {

constexpr std::size_t n_endings = 4;

struct HellaswagTask {
  std::size_t line = 0;  // of its context in the file, from 1
  std::string context;
  std::size_t gold = 0;
  std::array<std::string, n_endings> endings;
};

/// @param where  names the text in errors
/// @throws Error (bad_file) naming the line, what was found there and what was expected
std::vector<HellaswagTask> parse_hellaswag(std::string_view text, const std::string& where);

/// Indices of at most `n_wanted` of `n_tasks` tasks, each once, in the order llama-perplexity draws them when
/// it is built with libstdc++ 11 or later: mt19937 seeded with 1, numbers by Lemire's method. The standard
/// leaves the method to the library; here it is written out, and the same everywhere.
std::vector<std::size_t> draw_tasks(std::size_t n_tasks, std::size_t n_wanted);

/// A task as the model reads it: context, a space, ending, encoded as one text for each ending.
struct EncodedTask {
  std::size_t n_common = 0;  // leading tokens that all have: read once, not scored
  std::array<std::vector<TokenId>, n_endings> tokens;
};

/// The last token of an ending is never common, even if it is how all others begin: each has something to
/// score.
/// @param n_ctx  tokens a task may have
/// @throws Error (bad_file) if it has more, or if its endings have no token before them
EncodedTask encode_task(const HellaswagTask& task, const Tokenizer& tokenizer, std::int32_t n_ctx,
                        const std::string& where);

}  // namespace cga::cli
