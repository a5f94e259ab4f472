// Ops::encode_pages, a slab of up to four pages at a time: rows become z, the wide components are coded, what
// they reconstruct to is subtracted from z, and the rest is coded. z is kept as the sum of two f16, which
// have 22 bits where components of the transform span three orders of magnitude (docs/kernels/latent.md).
#include <algorithm>

#include "kernels/cuda/latent/decode_kernel.cuh"
#include "kernels/cuda/latent/latent.h"
#include "kernels/cuda/latent/project_kernel.cuh"
#include "kernels/cuda/latent/split.cuh"

namespace cga::cuda {
namespace {

constexpr int split_threads = 256;

/// The power of two that brings a row's largest magnitude into [2^9, 2^10): room for what subtraction may add
/// below 65,504.
__device__ float row_power(float largest) {
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23 & 255u) - 127;
  const int power = largest > 0.0f ? min(max(9 - exponent, -100), 100) : 0;
  return __uint_as_float(static_cast<unsigned>(127 + power) << 23);
}

/// Grid: [rows].
__global__ void __launch_bounds__(split_threads)
    split_kernel(LatentData latent, const float* x, SplitRows z) {
  __shared__ float parts[split_threads / 32];
  const std::int64_t first = std::int64_t{blockIdx.x} * latent.n;
  float largest = 0.0f;
  for (int c = threadIdx.x; c < latent.n; c += split_threads) {
    largest = fmaxf(largest, fabsf(coded_value(latent, x + first, c)));
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
  }
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = largest;
  __syncthreads();
  for (const float part : parts) largest = fmaxf(largest, part);
  const float power = row_power(largest);
  if (threadIdx.x == 0) z.power[blockIdx.x] = power;
  for (int c = threadIdx.x; c < latent.n; c += split_threads) {
    store_split(z, first + c, coded_value(latent, x + first, c) * power);
  }
}

/// z = scale · (x - mean) - sum. What is left is a hundredth of what is subtracted.
struct Subtract {
  static constexpr int terms = 2;
  LatentData latent;
  const float* x;  // [rows, n], f32
  SplitRows z;

  __device__ void operator()(std::int64_t at, int channel, int /*column*/, float sum) const {
    const float before = coded_value(latent, x + at * latent.n, channel);
    const float restored = sum * latent.inverse_scale[channel] * latent.scale[channel];
    store_split(z, at * latent.n + channel, (before - restored) * z.power[at]);
  }
};

void encode_slab(const EncodeArgs& args, cudaStream_t stream) {
  const LatentData& latent = args.latent;
  const int multiprocessors = multiprocessors_in_use();
  auto* const high = reinterpret_cast<__half*>(args.scratch);
  __half* const low = high + std::int64_t{slab_rows} * latent.n;
  const SplitRows z{high, low, reinterpret_cast<float*>(low + std::int64_t{slab_rows} * latent.n)};
  split_kernel<<<args.n_units * unit_tokens, split_threads, 0, stream>>>(latent, args.x, z);
  check(cudaGetLastError(), "encode_pages");
  const ProjectArgs wide{.latent = latent,
                         .z = z,
                         .blocks = args.blocks,
                         .n_blocks = args.n_wide,
                         .coded = args.coded,
                         .unit_bytes = args.unit_bytes,
                         .units = args.units,
                         .n_pages = args.n_units / page_units};
  if (args.n_wide > 0) {
    launch_project<true>(wide, multiprocessors, stream);
    constexpr DecodeShape shape{2, 2};
    const DecodeUnitsArgs restored{.latent = latent,
                                   .blocks = args.blocks,
                                   .n_blocks = args.n_wide,
                                   .coded = args.coded,
                                   .unit_bytes = args.unit_bytes,
                                   .units = args.units,
                                   .n_units = args.n_units,
                                   .pieces = args.pieces,
                                   .n_pieces = latent.n / shape.channels(),
                                   .shape = shape};
    launch_decode_kernel<2, 2>(restored, Subtract{latent, args.x, z}, stream);
  }
  ProjectArgs narrow = wide;
  narrow.blocks += args.n_wide;
  narrow.n_blocks = args.n_blocks - args.n_wide;
  launch_project<false>(narrow, multiprocessors, stream);
}

}  // namespace

void encode_pages(const EncodeArgs& args, cudaStream_t stream) {
  constexpr std::int32_t most = slab_pages * page_units;
  if (args.n_blocks == 0) return;
  for (std::int32_t first = 0; first < args.n_units; first += most) {
    EncodeArgs slab = args;
    slab.x += std::int64_t{first} * unit_tokens * args.latent.n;
    slab.units += first;
    slab.n_units = std::min(most, args.n_units - first);
    encode_slab(slab, stream);
  }
}

}  // namespace cga::cuda
