// Rotation of queries and keys, and keys and values into their pages: one warp a vector. Every operation is
// the reference's, in its order and unfused, so that pages hold the same values whoever wrote them.
#include "kernels/cuda/attention/hadamard.cuh"
#include "kernels/cuda/attention/page.cuh"
#include "kernels/cuda/runtime/check.h"
#include "quant/nearest.h"

namespace cga::cuda {
namespace {

constexpr int warps = 8;  // vectors a CTA

/// @param x  [head_dim], in shared memory
__device__ void rotate(float* x, const float* cos_sin, RopePairs pairs, int head_dim) {
  const int half = head_dim / 2;
  const int stride = pairs == RopePairs::halves ? 1 : 2;
  const int partner = pairs == RopePairs::halves ? half : 1;
  for (int i = threadIdx.x % 32; i < half; i += 32) {
    const float a = x[i * stride], b = x[i * stride + partner];
    const float c = cos_sin[i], s = cos_sin[half + i];
    x[i * stride] = __fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s));
    x[i * stride + partner] = __fadd_rn(__fmul_rn(a, s), __fmul_rn(b, c));
  }
  __syncwarp();
}

/// The value of largest magnitude of a warp's 32, with its sign; the positive one of two (quant/nearest.h).
__device__ float warp_extreme(float value) {
  float low = value, high = value;
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    low = fminf(low, __shfl_xor_sync(~0u, low, lanes));
    high = fmaxf(high, __shfl_xor_sync(~0u, high, lanes));
  }
  return high >= -low ? high : low;
}

/// @param x      [head_dim], in shared memory; overwritten
/// @param block  of the head's keys or values in the page
template <KvElement element>
__device__ void store_vector(float* x, std::byte* block, int plane, int token, int head_dim) {
  const int lane = threadIdx.x % 32;
  std::byte* row = block + token * code_row_bytes<element>(head_dim);
  if constexpr (element == KvElement::f32) {
    for (int i = lane; i < head_dim; i += 32) reinterpret_cast<float*>(row)[i] = x[i];
  } else if constexpr (element == KvElement::bf16) {
    for (int i = lane; i < head_dim / 2; i += 32) {
      const std::uint32_t low = f32_to_bf16(x[2 * i]), high = f32_to_bf16(x[2 * i + 1]);
      reinterpret_cast<std::uint32_t*>(row)[i] = low | high << 16;
    }
  } else {
    auto* scales = reinterpret_cast<std::uint16_t*>(block + page_tokens * code_row_bytes<element>(head_dim) +
                                                    token * scale_row_bytes<element>(head_dim));
    if constexpr (element == KvElement::q4) warp_hadamard(x, head_dim);
    for (int b = 0; b < head_dim / kv_block_values; ++b) {
      const float value = x[b * kv_block_values + lane];
      const float extreme = warp_extreme(value);
      const std::uint16_t scale = f32_to_f16(element == KvElement::q8 ? __fdiv_rn(fabsf(extreme), 127.0f)
                                                                      : __fdiv_rn(extreme, -8.0f));
      const float per_step = inverse(f16_to_f32(scale));
      constexpr int zero = element == KvElement::q8 ? 127 : 8;
      const int code = nearest_code(__fadd_rn(__fmul_rn(value, per_step), static_cast<float>(zero)),
                                    element == KvElement::q8 ? 254 : 15);
      if (lane == 0) scales[b] = scale;
      if constexpr (element == KvElement::q8) {
        reinterpret_cast<std::int8_t*>(row)[b * kv_block_values + lane] =
            static_cast<std::int8_t>(code - zero);
      } else {
        x[b * kv_block_values + lane] = static_cast<float>(code);
      }
    }
    if constexpr (element == KvElement::q4) {
      __syncwarp();
      for (int at = lane; at < head_dim / 2; at += 32) {
        const int dim = q4_dim(plane, head_dim, at);
        row[at] = static_cast<std::byte>(static_cast<int>(x[dim]) | static_cast<int>(x[dim + 1]) << 4);
      }
    }
  }
}

/// Grid: [n_rows, vectors a row / warps].
template <KvElement element>
__global__ void __launch_bounds__(32 * warps) append_kernel(AppendArgs args, int n_queries) {
  extern __shared__ float vectors[];  // [warps, head_dim]
  __shared__ int found;
  const int head_dim = args.layout.head_dim, n_kv_heads = args.layout.n_kv_heads;
  const int row = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int s = find_sequence(args.sequences, args.n_sequences, row, &found);
  const int vector = blockIdx.y * warps + warp;  // queries, then keys, then values
  if (s < 0 || vector >= n_queries + 2 * n_kv_heads) return;
  const bool is_query = vector < n_queries;
  const int plane = vector >= n_queries + n_kv_heads ? 1 : 0;
  const int head = is_query ? vector : vector - n_queries - plane * n_kv_heads;

  const std::int64_t at = (std::int64_t{row} * (is_query ? args.n_heads : n_kv_heads) + head) * head_dim;
  const float* from = (is_query ? args.q : plane == 0 ? args.k : args.v) + at;
  float* x = vectors + warp * head_dim;
  for (int i = lane; i < head_dim; i += 32) x[i] = from[i];
  __syncwarp();
  if (args.cos_sin != nullptr && plane == 0) {
    rotate(x, args.cos_sin + std::int64_t{row} * head_dim, args.pairs, head_dim);
    float* to = (is_query ? args.q : args.k) + at;
    for (int i = lane; i < head_dim; i += 32) to[i] = x[i];
  }
  if (is_query) return;
  const SequenceMeta meta = args.sequences[s];
  const int position = meta.position + row - meta.first_row;
  const int page = args.pages[meta.first_page + position / page_tokens];
  const PageView<element> view{args.base, n_kv_heads, head_dim};
  auto* block = args.base + (view.block(page, plane, head) - args.base);
  store_vector<element>(x, block, plane, position % page_tokens, head_dim);
}

template <KvElement element>
void launch(const AppendArgs& args, cudaStream_t stream) {
  const int n_queries = args.q != nullptr && args.cos_sin != nullptr ? args.n_heads : 0;
  const int n_vectors = n_queries + 2 * args.layout.n_kv_heads;
  const dim3 grid(args.n_rows, (n_vectors + warps - 1) / warps);
  const std::size_t shared = sizeof(float) * warps * args.layout.head_dim;
  append_kernel<element><<<grid, 32 * warps, shared, stream>>>(args, n_queries);
  check(cudaGetLastError(), "rope_append");
}

}  // namespace

void rope_append(const AppendArgs& args, cudaStream_t stream) {
  if (args.n_rows == 0 || args.n_sequences == 0) return;
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
      return;  // residents are scattered
  }
}

}  // namespace cga::cuda
