#include "kernels/cuda/matmul/steps.h"

#include "kernels/cuda/matmul/activations.cuh"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int row_threads = 256;

__global__ void __launch_bounds__(row_threads) normalise_kernel(float* out, ActivationRow row) {
  __shared__ float2 scratch[max_segments];
  const std::int64_t offset = static_cast<std::int64_t>(blockIdx.x) * row.cols;
  row.x += offset;
  const float rms = row_factors(row, scratch).rms;
  for (int i = threadIdx.x; i < row.cols; i += blockDim.x) {
    out[offset + i] = __fmul_rn(__fmul_rn(row.x[i], rms), row.norm[i]);
  }
}

__global__ void __launch_bounds__(row_threads) halves_kernel(const __grid_constant__ HalvesArgs args) {
  __shared__ float2 scratch[max_segments];
  const std::int64_t token = blockIdx.x;
  const ActivationRow row{args.x + token * args.cols, args.norm, args.eps, static_cast<int>(args.cols),
                          static_cast<int>(args.padded_cols)};
  const RowFactors factors = row_factors(row, scratch);
  if (threadIdx.x == 0) args.scales[token] = factors.scale;
  auto* out = reinterpret_cast<uint4*>(args.out + token * args.padded_cols);
  for (int i = threadIdx.x; i < row.padded_cols / 8; i += blockDim.x) {
    float v[8];
    scaled_chunk(row, factors, i, v);
    out[i] = round_chunk<F16>(v);
  }
}

__device__ float value_of(const Product& product, const EpilogueArgs& args, std::int64_t token,
                          std::int64_t row) {
  float value = product.values[token * args.stride + row];
  if (args.token_scale != nullptr) value = __fmul_rn(value, args.token_scale[token]);
  if (product.row_scale != nullptr) value = __fmul_rn(value, product.row_scale[row]);
  if (product.bias != nullptr) value = __fadd_rn(value, product.bias[row]);
  return value;
}

__global__ void epilogue_kernel(const __grid_constant__ EpilogueArgs args) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row >= args.rows) return;
  for (std::int64_t token = blockIdx.y; token < args.n_tokens; token += gridDim.y) {
    float* out = args.out + token * args.out_stride + row;
    float value = value_of(args.products[0], args, token, row);
    if (args.epilogue == Epilogue::swiglu) {
      const float up = value_of(args.products[1], args, token, row);
      value = __fmul_rn(__fdiv_rn(value, __fadd_rn(1.0f, expf(-value))), up);
    }
    *out = args.epilogue == Epilogue::add ? __fadd_rn(*out, value) : value;
  }
}

}  // namespace

void normalise(float* out, const float* x, const float* norm, float eps, std::int64_t n_tokens,
               std::int64_t cols, cudaStream_t stream) {
  const ActivationRow row{x, norm, eps, static_cast<int>(cols), static_cast<int>(round_up(cols, tile_cols))};
  normalise_kernel<<<static_cast<unsigned>(n_tokens), row_threads, 0, stream>>>(out, row);
  check(cudaGetLastError(), "normalise_kernel");
}

void convert_to_halves(const HalvesArgs& args, cudaStream_t stream) {
  halves_kernel<<<static_cast<unsigned>(args.n_tokens), row_threads, 0, stream>>>(args);
  check(cudaGetLastError(), "halves_kernel");
}

void apply_epilogue(const EpilogueArgs& args, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>((args.rows + 255) / 256),
                  static_cast<unsigned>(std::min<std::int64_t>(args.n_tokens, 1024)));
  epilogue_kernel<<<grid, 256, 0, stream>>>(args);
  check(cudaGetLastError(), "epilogue_kernel");
}

}  // namespace cga::cuda
