// Parameters of the decode kernels.
#pragma once

#include <cuda_runtime_api.h>

#include "kernels/cuda/matmul/matmul.h"
#include "kernels/cuda/matmul/plan.h"
#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {

struct DecodeTarget {
  TileArrays weight;            // [rows, cols]
  const float* bias = nullptr;  // [rows] or null
  float* out = nullptr;         // [n_tokens, rows]
  int rows = 0;
  int first_task = 0;
};

/// A task is 16 rows of a target; of swiglu, the same 16 rows of both.
struct DecodeArgs {
  DecodeTarget targets[max_decode_targets];
  int n_targets = 0, n_tasks = 0;
  Epilogue epilogue = Epilogue::store;
  const float* x = nullptr;     // [n_tokens, cols]
  const float* norm = nullptr;  // [cols] or null
  float eps = 0;
  int n_tokens = 0;  // 1 … 32
  int cols = 0;
  std::byte* converted =
      nullptr;  // a group of tokens after another in ActivationLayout or IntegerLayout, unless CTAs convert
};

}  // namespace cga::cuda
