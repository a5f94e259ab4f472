// Which tokens of a text a perplexity run feeds and which it scores: llama.cpp's conventions as a pure
// function, so that a base file written by one run and the run compared with it agree on every scored
// position.
#pragma once

#include <cstdint>
#include <vector>

#include "cga/tokenizer.h"

namespace cga::cli {

struct ChunkOptions {
  std::int32_t n_ctx = 512;
  std::int32_t stride = 0;  ///< 0: chunks do not overlap; else each chunk starts `stride` after the last
  std::int32_t score_from =
      -1;  ///< first row of a chunk that is scored; -1: its second half (not with stride)
  std::int32_t max_chunks = -1;  ///< -1: as many as the text fills
  std::int32_t min_chunks = 2;   ///< a text must hold so many times the tokens of a chunk
};

/// Chunks of one length at equal distances. Row r of a chunk predicts the chunk's token r + 1; the rows
/// [first_scored, length - 1) are scored, and the last token is only ever predicted.
struct ChunkPlan {
  std::int32_t length = 0;
  std::int32_t step = 0;
  std::int32_t first_scored = 0;
  std::int32_t n_chunks = 0;

  std::int32_t n_scored() const { return length - 1 - first_scored; }
  std::int64_t start(std::int32_t chunk) const { return std::int64_t{chunk} * step; }
  std::int64_t n_rows() const { return std::int64_t{n_scored()} * n_chunks; }
  std::int64_t n_tokens() const { return n_chunks == 0 ? 0 : start(n_chunks - 1) + length; }
};

/// Tokens a chunk holds: the context, and with a stride half of it more, as llama.cpp does.
std::int32_t chunk_length(const ChunkOptions& options);

/// @throws Error (usage) if an option is out of range, or with both counts if the text is too short
ChunkPlan plan_chunks(const ChunkOptions& options, std::int64_t n_tokens);

/// The tokens of chunk `chunk` that are fed: all but the last, beginning with `bos` (-1: with its own first
/// token).
std::vector<TokenId> chunk_inputs(const ChunkPlan& plan, std::int32_t chunk,
                                  const std::vector<TokenId>& tokens, TokenId bos);

}  // namespace cga::cli
