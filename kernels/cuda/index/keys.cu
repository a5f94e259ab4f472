// Keys of the index into their pages: one warp a token.
#include "kernels/cuda/index/index.h"
#include "kernels/cuda/index/rounded.cuh"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int warps = 8;  // tokens a CTA

/// The sequence that row belongs to, or -1. All lanes call it.
__device__ int find_row(const IndexKeysArgs& args, int row) {
  int found = -1;
  for (int s = threadIdx.x % 32; s < args.n_sequences; s += 32) {
    const SequenceMeta meta = args.sequences[s];
    if (row >= meta.first_row && row < meta.first_row + meta.n_tokens) found = s;
  }
  return __reduce_max_sync(~0u, found);
}

/// Grid: [n_rows / warps].
__global__ void __launch_bounds__(32 * warps) keys_kernel(IndexKeysArgs args) {
  const int row = blockIdx.x * warps + threadIdx.x / 32;
  if (row >= args.n_rows) return;
  const int s = find_row(args, row);
  if (s < 0) return;
  const SequenceMeta meta = args.sequences[s];
  const int position = meta.position + row - meta.first_row, in_unit = position % unit_tokens;
  const int width = args.layout.width;
  const float* x = args.k + std::int64_t{row} * width;
  const float* cos_sin = args.cos_sin + std::int64_t{row} * (width / 2);
  const float scale = warp_scale(x, cos_sin, width);
  const IndexUnit unit =
      index_unit(args.base, args.layout, args.pages + meta.first_page, position / unit_tokens);
  for (int i = threadIdx.x % 32; i < width; i += 32) {
    unit.codes[i * unit_tokens + in_unit] = index_code(rotated(x, cos_sin, width, i), scale);
  }
  if (threadIdx.x % 32 == 0) unit.scales[in_unit] = scale;
}

}  // namespace

void index_keys(const IndexKeysArgs& args, cudaStream_t stream) {
  if (args.n_rows == 0 || args.n_sequences == 0) return;
  keys_kernel<<<(args.n_rows + warps - 1) / warps, 32 * warps, 0, stream>>>(args);
  check(cudaGetLastError(), "index_keys");
}

}  // namespace cga::cuda
