// Which rows of which matrix a CTA of the decode kernels, or a team of its warps, multiplies when.
#pragma once

#include "kernels/cuda/matmul/decode.h"

namespace cga::cuda {

/// 16 rows of a target.
struct Place {
  int target;  // its index: an indexed parameter is a constant, one behind a pointer is not
  int row_tile;
  int unit;  // 1: of the second matrix of a task
};

/// The tasks of those who work together: first, first + stride, …
struct Share {
  int first, stride;
};

/// The tasks of team t of every CTA's n.
__device__ __forceinline__ Share share_of_team(int t, int n) {
  const int n_ctas = static_cast<int>(gridDim.x);
  return {static_cast<int>(blockIdx.x) + t * n_ctas, n * n_ctas};
}

/// The task to which a share's n-th matrix belongs: one of swiglu has two.
__device__ __forceinline__ int task_of(const DecodeArgs& args, const Share& share, int n) {
  const int pairs = args.epilogue == Epilogue::swiglu;
  return share.first + (n >> pairs) * share.stride;
}

__device__ __forceinline__ bool has_work(const DecodeArgs& args, const Share& share, int n) {
  return task_of(args, share, n) < args.n_tasks;
}

__device__ __forceinline__ Place place_of(const DecodeArgs& args, const Share& share, int n) {
  const int task = task_of(args, share, n);
  if (args.epilogue == Epilogue::swiglu) return {n % 2, task, n % 2};
  int t = 0;
  while (t + 1 < args.n_targets && task >= args.targets[t + 1].first_task) ++t;
  return {t, task - args.targets[t].first_task, 0};
}

}  // namespace cga::cuda
