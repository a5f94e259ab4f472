// The likeliest tokens of rows of logits: two kernels, the first over parts of rows, the second over rows.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/shortlist/plan.h"
#include "kernels/ops.h"

namespace cga::cuda {

struct ShortlistArgs {
  const float* logits = nullptr;  // [n_rows, n_vocab], f32
  int n_rows = 0, n_vocab = 0, k = 0;
  Candidate* likeliest = nullptr;     // [n_rows, k], in memory of the device or pinned memory of the host
  LogitSummary* summaries = nullptr;  // [n_rows], likewise
  std::byte* workspace = nullptr;     // [shortlist_workspace_bytes(n_rows)]
};

/// For any n_vocab and k that longest_shortlist allows.
std::size_t shortlist_workspace_bytes(std::int64_t n_rows);

void shortlist(const ShortlistArgs& args, cudaStream_t stream);

}  // namespace cga::cuda
