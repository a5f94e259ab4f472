// quant/hadamard.h by one warp: the same operations on the same operands, hence the same bits.
#pragma once

#include "quant/hadamard.h"

namespace cga::cuda {

/// In place; all lanes call it.
/// @param x  [head_dim], in shared memory
__device__ inline void warp_hadamard(float* x, int head_dim) {
  const int lane = threadIdx.x % 32, size = head_dim & -head_dim;
  __syncwarp();
  for (int distance = 1; distance < size; distance *= 2) {
    for (int pair = lane; pair < head_dim / 2; pair += 32) {
      const int i = pair / distance * 2 * distance + pair % distance;
      const float a = x[i], b = x[i + distance];
      x[i] = __fadd_rn(a, b);
      x[i + distance] = __fsub_rn(a, b);
    }
    __syncwarp();
  }
  const float factor = __fdiv_rn(1.0f, __fsqrt_rn(static_cast<float>(size)));
  for (int i = lane; i < head_dim; i += 32) x[i] = __fmul_rn(x[i], factor);
  __syncwarp();
}

}  // namespace cga::cuda
