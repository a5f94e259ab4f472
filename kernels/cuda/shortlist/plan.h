// How a row of logits is cut to take its shortlist: pure functions of its length and of k, tested without a
// GPU.
#pragma once

#include <cstdint>

namespace cga::cuda {

// A block takes the likeliest tokens of one part, in registers.
inline constexpr int part_threads = 512, part_thread_keys = 8;
inline constexpr int part_tokens = part_threads * part_thread_keys;
// A block merges those of all parts of a row, in registers too.
inline constexpr int merge_threads = 1024, few_thread_keys = 4, most_thread_keys = 16;
inline constexpr int most_parts = 64;  // two a lane of a warp
inline constexpr int most_shortlisted = 256;

constexpr int n_parts(std::int64_t n_vocab) {
  return static_cast<int>((n_vocab + part_tokens - 1) / part_tokens);
}

/// 0: rows of n_vocab logits have too many parts.
constexpr int longest_shortlist(std::int64_t n_vocab) {
  return n_vocab <= std::int64_t{most_parts} * part_tokens ? most_shortlisted : 0;
}

/// Keys that each thread of a merging block holds: few make the usual case quick.
constexpr int merge_thread_keys(std::int64_t n_vocab, int k) {
  return n_parts(n_vocab) * k <= merge_threads * few_thread_keys ? few_thread_keys : most_thread_keys;
}

}  // namespace cga::cuda
