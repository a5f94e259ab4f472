// Which kernel attends: tensor cores where there is a path for the shape, else the general kernel.
#include <algorithm>
#include <type_traits>

#include "kernels/cuda/attention/dispatch.h"
#include "kernels/cuda/attention/plan.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr int warps = 8;

/// to = hadamard(from), one warp a vector, in registers; may alias.  from, to: [n_vectors, head_dim], f32
template <int head_dim>
__global__ void __launch_bounds__(32 * warps)
    transform_kernel(const float* from, float* to, std::int64_t n_vectors) {
  constexpr int each = head_dim / 32;  // of a lane: values each * lane to each * lane + each - 1
  const int lane = threadIdx.x % 32;
  const std::int64_t vector = std::int64_t{blockIdx.x} * warps + threadIdx.x / 32;
  if (vector >= n_vectors) return;
  using Piece = std::conditional_t<each == 4, float4, float2>;
  union {
    Piece piece;
    float x[each];
  } own;
  own.piece = reinterpret_cast<const Piece*>(from + vector * head_dim)[lane];
#pragma unroll
  for (int distance = 1; distance < head_dim; distance *= 2) {
    float sum[each];
#pragma unroll
    for (int i = 0; i < each; ++i) {
      const bool second = distance < each ? i & distance : lane & (distance / each);
      const float other =
          distance < each ? own.x[i ^ distance] : __shfl_xor_sync(~0u, own.x[i], distance / each);
      sum[i] = second ? other - own.x[i] : own.x[i] + other;
    }
#pragma unroll
    for (int i = 0; i < each; ++i) own.x[i] = sum[i];
  }
  const float factor = __fdiv_rn(1.0f, __fsqrt_rn(static_cast<float>(head_dim)));
#pragma unroll
  for (int i = 0; i < each; ++i) own.x[i] *= factor;
  reinterpret_cast<Piece*>(to + vector * head_dim)[lane] = own.piece;
}

/// args.out = hadamard(from), for head_dim 64 and 128.
void transform(const float* from, const AttendArgs& args, cudaStream_t stream) {
  const std::int64_t n_vectors = std::int64_t{args.n_rows} * args.n_heads;
  const auto grid = static_cast<unsigned>((n_vectors + warps - 1) / warps);
  if (args.layout.head_dim == 64) {
    transform_kernel<64><<<grid, 32 * warps, 0, stream>>>(from, args.out, n_vectors);
  } else {
    transform_kernel<128><<<grid, 32 * warps, 0, stream>>>(from, args.out, n_vectors);
  }
  check(cudaGetLastError(), "attend_prefill: transform");
}

template <KvElement element>
void decode(const AttendArgs& args, cudaStream_t stream) {
  if (args.layout.head_dim == 64) return launch_decode<element, 64>(args, stream);
  launch_decode<element, 128>(args, stream);
}

template <KvElement element>
void prefill(const AttendArgs& args, const float* q, cudaStream_t stream) {
  if (args.layout.head_dim == 64) return launch_prefill<element, 64>(args, q, stream);
  launch_prefill<element, 128>(args, q, stream);
}

}  // namespace

void attend_decode(const AttendArgs& args, cudaStream_t stream) {
  if (args.n_sequences == 0 || args.n_rows == 0 || args.max_tokens == 0) return;
  const bool chooses_elsewhere = args.units && args.layout.element != KvElement::bf16;
  if (!has_tensor_path(args.layout) || chooses_elsewhere) return attend_general(args, stream);
  switch (args.layout.element) {
    case KvElement::bf16:
      return decode<KvElement::bf16>(args, stream);
    case KvElement::q8:
      return decode<KvElement::q8>(args, stream);
    case KvElement::q4:
      return decode<KvElement::q4>(args, stream);
    case KvElement::f32:
    case KvElement::i8:
      return;  // has no such path
  }
}

void attend_prefill(const AttendArgs& args, cudaStream_t stream) {
  if (args.n_sequences == 0 || args.n_rows == 0) return;
  const int group = args.n_heads / args.layout.n_kv_heads;
  if (!has_tensor_path(args.layout) || args.units || group > most_group) return attend_general(args, stream);
  switch (args.layout.element) {
    case KvElement::bf16:
      return prefill<KvElement::bf16>(args, args.q, stream);
    case KvElement::q8:
      return prefill<KvElement::q8>(args, args.q, stream);
    case KvElement::q4:
      // A tile reads its own rows before it writes them, and no other's: the output holds the queries.
      transform(args.q, args, stream);
      prefill<KvElement::q4>(args, args.out, stream);
      return transform(args.out, args, stream);
    case KvElement::f32:
    case KvElement::i8:
      return;  // has no such path
  }
}

std::size_t attend_workspace_bytes(std::int32_t n_heads, std::int32_t head_dim, std::int32_t max_rows,
                                   std::int32_t max_tokens, std::int32_t n_kv_heads) {
  const std::int32_t tiles = decode_tiles(n_kv_heads, n_heads / n_kv_heads);
  const DecodeWorkspace plan(n_heads, head_dim, std::min(max_rows, launch_sequences),
                             max_splits(max_tokens, long_splits(tiles, most_ctas)));
  return static_cast<std::size_t>(plan.bytes());
}

}  // namespace cga::cuda
