// The index on a GPU: index_keys, score_units, top_units (docs/kernels/cuda-index.md). Nothing here
// allocates, copies or synchronises.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/attention/attention.h"
#include "tensor/index_layout.h"

namespace cga::cuda {

struct IndexKeysArgs {
  const float* k = nullptr;        // [n_rows, width], f32, not rotated yet
  const float* cos_sin = nullptr;  // [n_rows, 2, width/4], f32
  std::byte* base = nullptr;       // [n_pages, layout.page_bytes()], bytes, 16-byte aligned
  IndexLayout layout;
  const SequenceMeta* sequences = nullptr;  // [n_sequences]
  const std::int32_t* pages = nullptr;      // ids of index pages
  std::int32_t n_sequences = 0, n_rows = 0;
};

/// The reference's codes and scales, to the bit. Rows of no sequence are left alone.
void index_keys(const IndexKeysArgs& args, cudaStream_t stream);

/// ScoredRow as kernels read it: page ids are pages[first_page], pages[first_page + 1], …
struct ScoredMeta {
  std::int32_t row, first, last, first_page;
};

struct ScoreUnitsArgs {
  const float* q = nullptr;        // [n_tokens, n_heads, width], f32, not rotated yet
  const float* weights = nullptr;  // [n_tokens, n_heads], f32
  const float* cos_sin = nullptr;  // [n_tokens, 2, width/4], f32
  std::int32_t n_heads = 0;
  const std::byte* base = nullptr;  // as in IndexKeysArgs
  IndexLayout layout;
  const ScoredMeta* rows = nullptr;     // [n_rows]
  const std::int32_t* pages = nullptr;  // ids of index pages
  std::int32_t n_rows = 0;
  std::int32_t most_units = 0;  // last - first of any row, or more
  float* scores = nullptr;      // [n_rows, stride], f32
  std::int64_t stride = 0;
};

/// The reference's scores, to the bit: no sum is fused or reordered.
void score_units(const ScoreUnitsArgs& args, cudaStream_t stream);

/// A row's predecessor's choice: `n` units from `before[at]` on; or `at` is one of the two below.
struct Before {
  std::int32_t at = 0, n = 0;
};
inline constexpr std::int32_t no_predecessor = -1;
inline constexpr std::int32_t follows_row = -2;  // the predecessor is the row just before

struct TopUnitsArgs {
  const float* scores = nullptr;  // [n_rows, stride], f32
  std::int64_t stride = 0;
  const ScoredMeta* rows = nullptr;  // [n_rows]: first and last
  std::int32_t n_rows = 0, count = 0;
  float bonus = 0.0f;           // of units that a row's predecessor chose
  const float* need = nullptr;  // as in TopUnitsParams
  std::int32_t mean = 0, least = 0;
  const Before* before_of = nullptr;     // [n_rows]
  const std::int32_t* before = nullptr;  // choices of earlier calls, each ascending
  std::int32_t* units = nullptr;         // [n_rows, count], device memory
  std::int32_t* counts = nullptr;        // [n_rows], device memory: how many of a row
};

/// Ops::top_units, with the choice in device memory.
void top_units(const TopUnitsArgs& args, cudaStream_t stream);

}  // namespace cga::cuda
