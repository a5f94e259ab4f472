// A page as this backend arranges it: [2 (keys, values), n_kv_heads] blocks of vector_bytes * 64 bytes.
//   bf16, f32   a block is [64, head_dim]
//   q8, q4      a block is codes [64, head_dim] or [64, head_dim/2], then scales [64, head_dim/32], f16: rows
//               of codes stay 16-byte aligned, and a 16-token unit's codes and scales are one range each
// A row of q4 keys has dims in order, the even one in the low half of its byte. Values of head_dim 64 and 128
// are arranged for the matrix product by dims (unpack.cuh): in each 32 bytes, 4-byte word g holds dims 4g to
// 4g + 3 of the first 32 dims, then of the second.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/attention/attention.h"

namespace cga::cuda {

template <KvElement element>
__host__ __device__ constexpr int code_row_bytes(int head_dim) {
  if (element == KvElement::f32) return 4 * head_dim;
  if (element == KvElement::bf16) return 2 * head_dim;
  return element == KvElement::q8 ? head_dim : head_dim / 2;
}

/// Bytes of one token's scales.
template <KvElement element>
__host__ __device__ constexpr int scale_row_bytes(int head_dim) {
  return element == KvElement::q8 || element == KvElement::q4 ? head_dim / kv_block_values * 2 : 0;
}

template <KvElement element>
__host__ __device__ constexpr int vector_bytes(int head_dim) {
  return code_row_bytes<element>(head_dim) + scale_row_bytes<element>(head_dim);
}

/// Where a 16-token unit of one head's keys or values begins.
struct UnitAddress {
  const std::byte* codes;
  const std::byte* scales;
};

/// Finds units of one KV head.
template <KvElement element>
struct PageView {
  const std::byte* base;
  int n_kv_heads, head_dim;

  __device__ std::int64_t block_bytes() const {
    return std::int64_t{page_tokens} * vector_bytes<element>(head_dim);
  }
  /// @param plane  0: keys, 1: values
  __device__ const std::byte* block(int page, int plane, int kv_head) const {
    return base + (std::int64_t{page} * 2 * n_kv_heads + plane * n_kv_heads + kv_head) * block_bytes();
  }
  __device__ UnitAddress unit(int unit_id, int plane, int kv_head) const {
    const std::byte* from = block(unit_id / 4, plane, kv_head);
    const int token = unit_id % 4 * unit_tokens;
    return {
        from + token * code_row_bytes<element>(head_dim),
        from + page_tokens * code_row_bytes<element>(head_dim) + token * scale_row_bytes<element>(head_dim)};
  }
};

/// The even dim in the low half of byte `at` of a q4 row; the high half holds the next.
__device__ inline int q4_dim(int plane, int head_dim, int at) {
  if (plane == 0 || head_dim % 64 != 0) return 2 * at;
  const int word = at / 4, half = at % 4 / 2;
  return word / 8 * 64 + half * 32 + word % 8 * 4 + at % 2 * 2;
}

/// Its inverse: the byte that holds dim (even) and dim + 1.
__device__ inline int q4_byte(int plane, int head_dim, int dim) {
  if (plane == 0 || head_dim % 64 != 0) return dim / 2;
  return (dim / 64 * 8 + dim % 32 / 4) * 4 + dim / 32 % 2 * 2 + dim % 4 / 2;
}

/// Dims dim (even) and dim + 1 of a token's vector, as floats.
template <KvElement element>
__device__ inline float2 load_pair(const UnitAddress& unit, int plane, int head_dim, int token, int dim) {
  const std::byte* row = unit.codes + token * code_row_bytes<element>(head_dim);
  if constexpr (element == KvElement::f32) {
    return reinterpret_cast<const float2*>(row)[dim / 2];
  } else if constexpr (element == KvElement::bf16) {
    return __bfloat1622float2(reinterpret_cast<const __nv_bfloat162*>(row)[dim / 2]);
  } else {
    const auto* scales =
        reinterpret_cast<const __half*>(unit.scales + token * scale_row_bytes<element>(head_dim));
    const float scale = __half2float(scales[dim / kv_block_values]);
    if constexpr (element == KvElement::q8) {
      const char2 codes = reinterpret_cast<const char2*>(row)[dim / 2];
      return {scale * static_cast<float>(codes.x), scale * static_cast<float>(codes.y)};
    } else {
      const int codes = static_cast<int>(row[q4_byte(plane, head_dim, dim)]);
      return {scale * static_cast<float>((codes & 15) - 8), scale * static_cast<float>((codes >> 4) - 8)};
    }
  }
}

/// The sequence that row belongs to, or -1. All threads of the CTA call it.
/// @param found  one int in shared memory
__device__ inline int find_sequence(const SequenceMeta* sequences, int n_sequences, int row, int* found) {
  if (threadIdx.x == 0) *found = -1;
  __syncthreads();
  for (int s = threadIdx.x; s < n_sequences; s += blockDim.x) {
    const SequenceMeta meta = sequences[s];
    if (row >= meta.first_row && row < meta.first_row + meta.n_tokens) *found = s;
  }
  __syncthreads();
  return *found;
}

}  // namespace cga::cuda
