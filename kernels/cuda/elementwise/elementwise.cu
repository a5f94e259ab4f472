// One thread an element, or one block a row: these ops move little next to the products, and the fused steps
// of a layer (ops.h) leave few of them.
#include "kernels/cuda/elementwise/elementwise.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int block_threads = 256;

unsigned blocks_for(std::int64_t n) {
  return static_cast<unsigned>((n + block_threads - 1) / block_threads);
}

__device__ std::int64_t element() {
  return std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
}

/// A block a row. The order of the sum depends on dim only.
__global__ void rms_norm_kernel(float* out, const float* x, const float* weight, float eps,
                                std::int64_t dim) {
  __shared__ float sums[block_threads / 32];
  const float* row = x + std::int64_t{blockIdx.x} * dim;
  float sum = 0.0f;
  for (std::int64_t i = threadIdx.x; i < dim; i += block_threads) sum += row[i] * row[i];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  sum = 0.0f;
  for (const float part : sums) sum += part;
  const float norm = 1.0f / sqrtf(sum / static_cast<float>(dim) + eps);
  float* to = out + std::int64_t{blockIdx.x} * dim;
  for (std::int64_t i = threadIdx.x; i < dim; i += block_threads) to[i] = row[i] * norm * weight[i];
}

/// In f64, as the reference: an angle of position 100,000 has few bits left for its fraction in f32.
__global__ void rope_angles_kernel(float* cos_sin, const std::int32_t* positions, std::int64_t n,
                                   const float* inverse_frequency, std::int64_t half, float magnitude) {
  const std::int64_t i = element();
  if (i >= n) return;
  const std::int64_t t = i / half, pair = i % half;
  const float angle = static_cast<float>(positions[t]) * inverse_frequency[pair];
  double sine, cosine;
  sincos(static_cast<double>(angle), &sine, &cosine);
  cos_sin[2 * t * half + pair] = static_cast<float>(cosine * magnitude);
  cos_sin[(2 * t + 1) * half + pair] = static_cast<float>(sine * magnitude);
}

__global__ void rope_kernel(float* x, const float* cos_sin, bool halves, std::int64_t n, std::int32_t n_heads,
                            std::int32_t head_dim) {
  const std::int64_t i = element();
  if (i >= n) return;
  const std::int32_t half = head_dim / 2;
  const std::int64_t head = i / half, pair = i % half;
  const float* angles = cos_sin + head / n_heads * head_dim;
  float& a = x[head * head_dim + (halves ? pair : 2 * pair)];
  float& b = x[head * head_dim + (halves ? pair + half : 2 * pair + 1)];
  const float cosine = angles[pair], sine = angles[half + pair];
  const float rotated_a = a * cosine - b * sine, rotated_b = a * sine + b * cosine;
  a = rotated_a;
  b = rotated_b;
}

__global__ void swiglu_kernel(float* out, const float* gate, const float* up, std::int64_t n) {
  const std::int64_t i = element();
  if (i < n) out[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

__global__ void add_kernel(float* x, const float* y, std::int64_t n) {
  const std::int64_t i = element();
  if (i < n) x[i] += y[i];
}

__global__ void gather_kernel(float* out, const float* x, const std::int32_t* rows, std::int64_t dim) {
  const float* from = x + rows[blockIdx.x] * dim;
  float* to = out + std::int64_t{blockIdx.x} * dim;
  for (std::int64_t i = threadIdx.x; i < dim; i += block_threads) to[i] = from[i];
}

__global__ void read_kernel(const uint4* data, std::int64_t n, unsigned* sink) {
  uint4 sum{};
  const std::int64_t stride = std::int64_t{gridDim.x} * blockDim.x;
  for (std::int64_t i = element(); i < n; i += stride) {
    const uint4 v = data[i];
    sum.x ^= v.x, sum.y ^= v.y, sum.z ^= v.z, sum.w ^= v.w;
  }
  const unsigned mixed = sum.x ^ sum.y ^ sum.z ^ sum.w;
  if (mixed == 0x5eed5eedu) *sink = mixed;  // never in practice; the compiler cannot know
}

void started(const char* what) {
  check(cudaGetLastError(), what);
}

}  // namespace

void rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
              std::int64_t dim, cudaStream_t stream) {
  if (n_tokens == 0) return;
  rms_norm_kernel<<<static_cast<unsigned>(n_tokens), block_threads, 0, stream>>>(out, x, weight, eps, dim);
  started("rms_norm");
}

void rope_angles(float* cos_sin, const std::int32_t* positions, std::int64_t n_tokens,
                 const float* inverse_frequency, std::int64_t half, float magnitude, cudaStream_t stream) {
  const std::int64_t n = n_tokens * half;
  if (n == 0) return;
  rope_angles_kernel<<<blocks_for(n), block_threads, 0, stream>>>(cos_sin, positions, n, inverse_frequency,
                                                                  half, magnitude);
  started("rope_angles");
}

void rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens, std::int32_t n_heads,
          std::int32_t head_dim, cudaStream_t stream) {
  const std::int64_t n = n_tokens * n_heads * (head_dim / 2);
  if (n == 0) return;
  rope_kernel<<<blocks_for(n), block_threads, 0, stream>>>(x, cos_sin, pairs == RopePairs::halves, n, n_heads,
                                                           head_dim);
  started("rope");
}

void swiglu(float* out, const float* gate, const float* up, std::int64_t n, cudaStream_t stream) {
  if (n == 0) return;
  swiglu_kernel<<<blocks_for(n), block_threads, 0, stream>>>(out, gate, up, n);
  started("swiglu");
}

void add(float* x, const float* y, std::int64_t n, cudaStream_t stream) {
  if (n == 0) return;
  add_kernel<<<blocks_for(n), block_threads, 0, stream>>>(x, y, n);
  started("add");
}

void gather(float* out, const float* x, const std::int32_t* rows, std::int64_t n_rows, std::int64_t dim,
            cudaStream_t stream) {
  if (n_rows == 0) return;
  gather_kernel<<<static_cast<unsigned>(n_rows), block_threads, 0, stream>>>(out, x, rows, dim);
  started("gather");
}

void read_all(const void* data, std::size_t bytes, unsigned* sink, cudaStream_t stream) {
  read_kernel<<<2048, block_threads, 0, stream>>>(static_cast<const uint4*>(data),
                                                  static_cast<std::int64_t>(bytes / sizeof(uint4)), sink);
  started("reading memory");
}

}  // namespace cga::cuda
