// Attention for every shape that has no kernel of its own: f32 pages, any even head_dim, choices of units for
// several rows at once. A CTA takes one row and query head; each warp walks every fourth 32 tokens, a lane a
// token for scores and a lane some dims for values, all in f32. Slow: heads share nothing they read.
#include "cga/error.h"
#include "kernels/cuda/attention/choice.cuh"
#include "kernels/cuda/attention/dispatch.h"
#include "kernels/cuda/attention/hadamard.cuh"
#include "kernels/cuda/attention/mma.cuh"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int warps = 4;

/// One warp's softmax state over its tokens.
template <int pairs>
struct LaneState {
  float m = -INFINITY, l = 0;
  float2 sums[pairs] = {};  // of dims 2 * (lane + 32 i) and the next
};

/// Adds 32 tokens of which the first n_valid count.
/// @param q     [head_dim], f32, in shared memory
/// @param unit  of the lane's token; no_unit: there is no token
template <KvElement element, int pairs>
__device__ void add_tokens(LaneState<pairs>& state, const float* q, const Choice<element>& choice, int unit,
                           int kv_head, int n_valid, float scale) {
  const int lane = threadIdx.x % 32, head_dim = choice.pages.head_dim;
  float score = -INFINITY;
  if (lane < n_valid && unit != no_unit) {
    const VectorAddress<element> key = choice.vector(unit, 0, kv_head, lane % unit_tokens);
    score = 0;
    for (int dim = 0; dim < head_dim; dim += 2) {
      const float2 pair = key.pair(0, head_dim, dim);
      score = fmaf(q[dim], pair.x, fmaf(q[dim + 1], pair.y, score));
    }
    score *= scale;
  }
  float largest = score;
  for (int lanes = 16; lanes > 0; lanes /= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
  largest = fmaxf(largest, state.m);
  const float base = largest == -INFINITY ? 0.0f : largest;
  const float fade = exp2_approx(state.m - base), weight = exp2_approx(score - base);
  state.m = largest;
  float total = weight;
  for (int lanes = 16; lanes > 0; lanes /= 2) total += __shfl_xor_sync(~0u, total, lanes);
  state.l = state.l * fade + total;
#pragma unroll
  for (int i = 0; i < pairs; ++i) state.sums[i] = {state.sums[i].x * fade, state.sums[i].y * fade};
  for (int token = 0; token < min(n_valid, 32); ++token) {
    const float w = __shfl_sync(~0u, weight, token);
    const int from = __shfl_sync(~0u, unit, token);
    if (from == no_unit) continue;  // the same for all lanes
    const VectorAddress<element> value = choice.vector(from, 1, kv_head, token % unit_tokens);
#pragma unroll
    for (int i = 0; i < pairs; ++i) {
      const int dim = 2 * (lane + 32 * i);
      if (dim >= head_dim) continue;
      const float2 pair = value.pair(1, head_dim, dim);
      state.sums[i] = {fmaf(w, pair.x, state.sums[i].x), fmaf(w, pair.y, state.sums[i].y)};
    }
  }
}

/// Grid: [n_rows, n_heads].  Shared memory: [1 + warps, head_dim], f32: the query, then the warps' sums.
template <KvElement element, int pairs>
__global__ void __launch_bounds__(32 * warps) general_kernel(AttendArgs args) {
  extern __shared__ float shared[];
  __shared__ int found;
  __shared__ float2 states[warps];
  const int head_dim = args.layout.head_dim, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int row = blockIdx.x, head = blockIdx.y;
  const int s = find_sequence(args.sequences, args.n_sequences, row, &found);
  if (s < 0) return;
  const SequenceMeta meta = args.sequences[s];
  const int length = meta.position + row - meta.first_row + 1;
  const std::int64_t at = (std::int64_t{row} * args.n_heads + head) * head_dim;
  for (int i = threadIdx.x; i < head_dim; i += 32 * warps) shared[i] = args.q[at + i];
  __syncthreads();
  if (element == KvElement::q4) {
    if (warp == 0) warp_hadamard(shared, head_dim);
    __syncthreads();
  }

  const Choice<element> choice{{args.base, args.layout.n_kv_heads, head_dim},
                               args.residents,
                               args.pages + meta.first_page,
                               args.units};
  const int kv_head = head / (args.n_heads / args.layout.n_kv_heads);
  LaneState<pairs> state;
  for (int first = warp * 32; first < length; first += 32 * warps) {
    const int token = first + lane;
    const int unit = token < length ? choice.unit_of(token) : no_unit;
    add_tokens<element, pairs>(state, shared, choice, unit, kv_head, length - first,
                               args.scale * 1.44269504f);
  }

  float* sums = shared + head_dim;
#pragma unroll
  for (int i = 0; i < pairs; ++i) {
    const int dim = 2 * (lane + 32 * i);
    if (dim < head_dim) *reinterpret_cast<float2*>(sums + warp * head_dim + dim) = state.sums[i];
  }
  if (lane == 0) states[warp] = {state.m, state.l};
  __syncthreads();
  if (warp != 0) return;
  float largest = -INFINITY, total = 0, weights[warps];
#pragma unroll
  for (int w = 0; w < warps; ++w) largest = fmaxf(largest, states[w].x);
#pragma unroll
  for (int w = 0; w < warps; ++w) {
    weights[w] = states[w].x == -INFINITY ? 0.0f : exp2_approx(states[w].x - largest);
    total += weights[w] * states[w].y;
  }
  for (int i = lane; i < head_dim; i += 32) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) sum += weights[w] * sums[w * head_dim + i];
    shared[i] = sum / total;
  }
  if (element == KvElement::q4) warp_hadamard(shared, head_dim);
  for (int i = lane; i < head_dim; i += 32) args.out[at + i] = shared[i];
}

template <KvElement element, int pairs>
void launch(const AttendArgs& args, cudaStream_t stream) {
  const std::size_t bytes = sizeof(float) * (1 + warps) * args.layout.head_dim;
  general_kernel<element, pairs><<<dim3(args.n_rows, args.n_heads), 32 * warps, bytes, stream>>>(args);
  check(cudaGetLastError(), "attend");
}

template <KvElement element>
void launch(const AttendArgs& args, cudaStream_t stream) {
  if (args.layout.head_dim <= 64) return launch<element, 1>(args, stream);
  if (args.layout.head_dim <= 128) return launch<element, 2>(args, stream);
  if (args.layout.head_dim <= 256) return launch<element, 4>(args, stream);
  if (args.layout.head_dim <= 512) return launch<element, 8>(args, stream);
  throw Error(ErrorKind::device, "attend", "head_dim over 512");
}

}  // namespace

void attend_general(const AttendArgs& args, cudaStream_t stream) {
  switch (args.layout.element) {
    case KvElement::f32:
      return launch<KvElement::f32>(args, stream);
    case KvElement::bf16:
      return launch<KvElement::bf16>(args, stream);
    case KvElement::q8:
      return launch<KvElement::q8>(args, stream);
    case KvElement::q4:
      return launch<KvElement::q4>(args, stream);
    case KvElement::i8:
      return;  // residents are never all that is read
  }
}

}  // namespace cga::cuda
