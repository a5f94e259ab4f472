// Rows on their way into codes, as sums of two f16 (SplitRows).
#pragma once

#include "kernels/cuda/latent/params.h"

namespace cga::cuda {

__device__ inline float coded_value(const LatentData& latent, const float* x, int channel) {
  return latent.scale[channel] * (x[channel] - latent.mean[channel]);
}

/// @param value  already times the row's power
__device__ inline void store_split(const SplitRows& z, std::int64_t at, float value) {
  const __half high = __float2half_rn(value);
  z.high[at] = high;
  z.low[at] = __float2half_rn(value - __half2float(high));
}

}  // namespace cga::cuda
