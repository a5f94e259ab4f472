// The attention mass of units, for --kv-select oracle: plain, and in an order that is the same whoever else
// is in the batch. Scores are computed twice: a CTA for a row and head finds the softmax's sum, then one for
// a row and 256 positions adds up the weights of all heads, in order. A thread takes a token, 16 lanes a
// unit.
#include "kernels/cuda/attention/choice.cuh"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int threads = 256, warps = threads / 32;

/// @param q  [head_dim], f32, in shared memory
/// @return the score of a position, -inf where there is no token
template <KvElement element>
__device__ float score_of(const Choice<element>& choice, const float* q, int kv_head, int position,
                          float scale) {
  const int unit = choice.unit_of(position), head_dim = choice.pages.head_dim;
  if (unit == no_unit) return -INFINITY;
  const VectorAddress<element> key = choice.vector(unit, 0, kv_head, position % unit_tokens);
  float score = 0;
  for (int dim = 0; dim < head_dim; dim += 2) {
    const float2 pair = key.pair(0, head_dim, dim);
    score = fmaf(q[dim], pair.x, fmaf(q[dim + 1], pair.y, score));
  }
  return score * scale;
}

/// exp(m - largest), and 0 where there is nothing.
__device__ float faded(float m, float largest) {
  return m == -INFINITY ? 0.0f : expf(m - largest);
}

/// The largest score of all threads, and the sum of exp(score - largest). All threads call it and get it.
/// @param states  [warps], in shared memory, used by no one else
__device__ float2 merge(float2 own, float2* states) {
  float largest = own.x;
  for (int lanes = 16; lanes > 0; lanes /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
  float sum = own.y * faded(own.x, largest);
  for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
  if (threadIdx.x % 32 == 0) states[threadIdx.x / 32] = {largest, sum};
  __syncthreads();
  largest = -INFINITY, sum = 0;
  for (int w = 0; w < warps; ++w) largest = fmaxf(largest, states[w].x);
  for (int w = 0; w < warps; ++w) sum += states[w].y * faded(states[w].x, largest);
  return {largest, sum};
}

/// What a row attends to, and how far.
template <KvElement element>
struct RowReads {
  Choice<element> choice;
  int length = 0;  // positions; 0: no sequence has the row

  __device__ RowReads(const MassArgs& args, int row, int* found) {
    const int s = find_sequence(args.sequences, args.n_sequences, row, found);
    if (s < 0) return;
    const SequenceMeta meta = args.sequences[s];
    length = meta.position + row - meta.first_row + 1;
    choice = {{args.base, args.layout.n_kv_heads, args.layout.head_dim},
              args.residents,
              args.pages + meta.first_page,
              args.units};
  }
};

/// @param q  [head_dim], in shared memory
__device__ void load_query(const MassArgs& args, int row, int head, float* q) {
  const int head_dim = args.layout.head_dim;
  __syncthreads();  // the head before is done with q
  for (int i = threadIdx.x; i < head_dim; i += threads) {
    q[i] = args.q[(std::int64_t{row} * args.n_heads + head) * head_dim + i];
  }
  __syncthreads();
}

/// The largest score and the softmax's sum of a row's head. Grid: [n_rows, n_heads]. Shared memory:
/// [head_dim], f32.
template <KvElement element>
__global__ void __launch_bounds__(threads) sum_kernel(MassArgs args) {
  extern __shared__ float q[];
  __shared__ int found;
  __shared__ float2 states[warps];
  const int row = blockIdx.x, head = blockIdx.y;
  const RowReads<element> reads(args, row, &found);
  if (reads.length == 0) return;
  const int kv_head = head / (args.n_heads / args.layout.n_kv_heads);
  load_query(args, row, head, q);
  float2 own{-INFINITY, 0};
  for (int position = threadIdx.x; position < reads.length; position += threads) {
    const float score = score_of(reads.choice, q, kv_head, position, args.scale);
    if (score == -INFINITY) continue;
    const float largest = fmaxf(own.x, score);
    own = {largest, own.y * faded(own.x, largest) + expf(score - largest)};
  }
  const float2 all = merge(own, states);
  if (threadIdx.x == 0) args.sums[std::int64_t{row} * args.n_heads + head] = all;
}

/// Adds the weights of all heads. Grid: [n_rows, most positions / threads]. Shared memory: [head_dim], f32.
template <KvElement element>
__global__ void __launch_bounds__(threads) mass_kernel(MassArgs args) {
  extern __shared__ float q[];
  __shared__ int found;
  const int row = blockIdx.x, first = blockIdx.y * threads, position = first + threadIdx.x;
  const RowReads<element> reads(args, row, &found);
  if (first >= reads.length) return;
  const bool leads = position % unit_tokens == 0 && position < reads.length;
  float* mass = args.mass + row * args.stride + position / unit_tokens;
  float total = leads ? *mass : 0.0f;
  for (int head = 0; head < args.n_heads; ++head) {
    const int kv_head = head / (args.n_heads / args.layout.n_kv_heads);
    load_query(args, row, head, q);
    const float2 all = args.sums[std::int64_t{row} * args.n_heads + head];
    float weight = 0;
    if (position < reads.length) {
      weight = faded(score_of(reads.choice, q, kv_head, position, args.scale), all.x) / all.y;
    }
    for (int lanes = unit_tokens / 2; lanes > 0; lanes /= 2) weight += __shfl_xor_sync(~0u, weight, lanes);
    total += weight;
  }
  if (leads) *mass = total;
}

template <KvElement element>
void launch(const MassArgs& args, cudaStream_t stream) {
  const std::size_t bytes = sizeof(float) * args.layout.head_dim;
  const auto n_rows = static_cast<unsigned>(args.n_rows), n_heads = static_cast<unsigned>(args.n_heads);
  const auto n_pieces = static_cast<unsigned>((args.max_tokens + threads - 1) / threads);
  sum_kernel<element><<<dim3(n_rows, n_heads), threads, bytes, stream>>>(args);
  mass_kernel<element><<<dim3(n_rows, n_pieces), threads, bytes, stream>>>(args);
  check(cudaGetLastError(), "attention_mass");
}

}  // namespace

void attention_mass(const MassArgs& args, cudaStream_t stream) {
  if (args.n_rows == 0 || args.max_tokens == 0) return;
  args.layout.element == KvElement::f32 ? launch<KvElement::f32>(args, stream)
                                        : launch<KvElement::bf16>(args, stream);
}

}  // namespace cga::cuda
