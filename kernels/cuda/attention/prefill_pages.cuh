// A page's keys or values of one KV head in shared memory, as 16-bit rows that ldmatrix reads.
//
// All become f16, whatever the page holds, because queries and weights are then rounded to 11 bits, not to
// the 8 of bf16. A bf16 value is exact in f16 from 2^-14 to 65504; smaller ones are off by at most 2^-25,
// larger ones become 65504. A code times its scale is rounded once.
#pragma once

#include "kernels/cuda/attention/mma.cuh"
#include "kernels/cuda/attention/page.cuh"

namespace cga::cuda {

inline constexpr int prefill_threads = 128;

template <KvElement element, int head_dim>
struct PageBuffer {
  static constexpr int pitch = 2 * head_dim + 16;  // bytes; rows of an 8x8 matrix lie in different banks
  static constexpr int bytes = page_tokens * pitch;
  static constexpr int code_row = code_row_bytes<element>(head_dim);
  static constexpr int scale_row = scale_row_bytes<element>(head_dim);
  static constexpr bool staged = scale_row > 0;
  static constexpr int staging_bytes = staged ? page_tokens * (code_row + scale_row) : 0;
};

/// The CTA begins to copy one head's keys or values of a page; tokens from n_valid on become zeros.
/// @param to    PageBuffer::bytes, or its staging_bytes; an address in shared memory
/// @param from  PageView::block
template <KvElement element, int head_dim>
__device__ inline void copy_page(std::uint32_t to, const std::byte* from, int n_valid) {
  using Buffer = PageBuffer<element, head_dim>;
  constexpr int chunks = Buffer::code_row / 16;  // a row
  constexpr int pitch = Buffer::staged ? Buffer::code_row : Buffer::pitch;
  static_assert(prefill_threads % chunks == 0);
  // Rows are contiguous in the page; all but the first address of a thread are it and a constant.
  const int first_row = threadIdx.x / chunks;
  const std::uint32_t own = to + first_row * pitch + threadIdx.x % chunks * 16;
  const std::byte* own_from = from + threadIdx.x * 16;
#pragma unroll
  for (int row = 0; row < page_tokens; row += prefill_threads / chunks) {
    copy_async(own + row * pitch, own_from + row * Buffer::code_row, first_row + row < n_valid ? 16 : 0);
  }
  if constexpr (Buffer::staged) {
    constexpr int codes = page_tokens * Buffer::code_row, all = page_tokens * Buffer::scale_row / 16;
    if (threadIdx.x < all) {
      const int at = threadIdx.x * 16;
      const int valid = min(max(n_valid * Buffer::scale_row - at, 0), 16);
      copy_async(to + codes + at, from + codes + at, valid);
    }
  }
}

/// Two bf16 as two f16.
__device__ inline std::uint32_t bf16_pair_to_f16(std::uint32_t x) {
  std::uint32_t result;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;"
      : "=r"(result)
      : "f"(__uint_as_float(x & 0xffff0000u)), "f"(__uint_as_float(x << 16)));
  return result;
}

/// Each thread turns what copy_page made it copy from bf16 to f16, in place: no other thread's copies need to
/// have arrived.
/// @param rows  as `to` of copy_page
template <int head_dim>
__device__ inline void convert_page(std::byte* rows) {
  using Buffer = PageBuffer<KvElement::bf16, head_dim>;
  constexpr int chunks = Buffer::code_row / 16;
  std::byte* own = rows + threadIdx.x / chunks * Buffer::pitch + threadIdx.x % chunks * 16;
#pragma unroll
  for (int row = 0; row < page_tokens; row += prefill_threads / chunks) {
    uint4& piece = *reinterpret_cast<uint4*>(own + row * Buffer::pitch);
    const uint4 x = piece;
    piece = {bf16_pair_to_f16(x.x), bf16_pair_to_f16(x.y), bf16_pair_to_f16(x.z), bf16_pair_to_f16(x.w)};
  }
}

/// A token that no row has seen by then, wherever in later pages its own token is.
inline constexpr int never = 1 << 30;

/// Where one of a page's values is not finite, a row that does not see it would still get 0 · NaN from the
/// matrix product. Replaces such values by zeros and tells from which token on rows are to be spoiled. All
/// threads of the CTA call it; true if there was any, which all of them learn.
/// @param rows      [page_tokens] rows of f16, in shared memory
/// @param bad_from  [head_dim], in shared memory: of each dim, the first such token, or never
template <int head_dim>
__device__ inline bool clean_values(std::byte* rows, int* bad_from) {
  constexpr int pitch = 2 * head_dim + 16, pieces = head_dim / 8;
  bool broken = false;
  for (int at = threadIdx.x; at < page_tokens * pieces; at += prefill_threads) {
    const uint4 x = *reinterpret_cast<const uint4*>(rows + at / pieces * pitch + at % pieces * 16);
    for (const std::uint32_t pair : {x.x, x.y, x.z, x.w}) {
      broken = broken || (pair & 0x7c00u) == 0x7c00u || (pair & 0x7c000000u) == 0x7c000000u;
    }
  }
  if (!__syncthreads_or(broken)) return false;
  for (int dim = threadIdx.x; dim < head_dim; dim += prefill_threads) {
    int first = never;
    for (int token = page_tokens - 1; token >= 0; --token) {
      auto& value = *reinterpret_cast<std::uint16_t*>(rows + token * pitch + dim * 2);
      if ((value & 0x7c00) != 0x7c00) continue;
      value = 0;
      first = token;
    }
    bad_from[dim] = first;
  }
  __syncthreads();
  return true;
}

/// Bytes 0 and 2 of x as the low bytes of two f16: 1024 + byte, less `zero`, times scale.
__device__ inline std::uint32_t scaled_codes(std::uint32_t x, std::uint32_t zero, __half2 scale) {
  const std::uint32_t above = x | 0x64006400u;
  const __half2 product = __hmul2(
      __hsub2(reinterpret_cast<const __half2&>(above), reinterpret_cast<const __half2&>(zero)), scale);
  return reinterpret_cast<const std::uint32_t&>(product);
}

/// The CTA turns a staged page into f16 rows.
/// @param rows    PageBuffer::bytes, in shared memory
/// @param staged  PageBuffer::staging_bytes, in shared memory
template <KvElement element, int head_dim, int plane>
__device__ inline void unpack_page(std::byte* rows, const std::byte* staged) {
  using Buffer = PageBuffer<element, head_dim>;
  const auto* scales = reinterpret_cast<const __half*>(staged + page_tokens * Buffer::code_row);
  constexpr int words = head_dim / 8;  // pieces of 8 values a row
#pragma unroll 4
  for (int at = threadIdx.x; at < page_tokens * words; at += prefill_threads) {
    const int row = at / words, word = at % words;
    const __half* scale = scales + row * (head_dim / 32);
    std::byte* to = rows + row * Buffer::pitch;
    if constexpr (element == KvElement::q8) {
      uint2 codes = *reinterpret_cast<const uint2*>(staged + row * Buffer::code_row + word * 8);
      codes.x ^= 0x80808080u, codes.y ^= 0x80808080u;  // code + 128
      constexpr std::uint32_t zero = 0x64806480u;      // 1024 + 128
      const __half2 s = __half2half2(scale[word / 4]);
      uint4 values;
      values.x = scaled_codes(__byte_perm(codes.x, 0, 0x4140), zero, s);
      values.y = scaled_codes(__byte_perm(codes.x, 0, 0x4342), zero, s);
      values.z = scaled_codes(__byte_perm(codes.y, 0, 0x4140), zero, s);
      values.w = scaled_codes(__byte_perm(codes.y, 0, 0x4342), zero, s);
      *reinterpret_cast<uint4*>(to + word * 16) = values;
    } else {
      const auto codes = *reinterpret_cast<const std::uint32_t*>(staged + row * Buffer::code_row + word * 4);
      const std::uint32_t even = codes & 0x0f0f0f0fu,
                          odd = codes >> 4 & 0x0f0f0f0fu;  // nibbles 0 2 4 6, 1 3 5 7
      constexpr std::uint32_t zero = 0x64086408u;          // 1024 + 8
      // The words of nibbles (0, 1), (2, 3), (4, 5) and (6, 7): byte 0 and byte 2 of each.
      const std::uint32_t low = __byte_perm(even, odd, 0x5140), high = __byte_perm(even, odd, 0x7362);
      const int first =
          plane == 0 ? word * 8 : word / 8 * 64 + word % 8 * 4;  // dims of nibbles 0 to 3, 4 to 7
      const int second = plane == 0 ? first + 4 : first + 32;
      const __half2 s = __half2half2(scale[first / 32]), s2 = __half2half2(scale[second / 32]);
      uint2 values;
      values.x = scaled_codes(__byte_perm(low, 0, 0x4140), zero, s);
      values.y = scaled_codes(__byte_perm(low, 0, 0x4342), zero, s);
      *reinterpret_cast<uint2*>(to + first * 2) = values;
      values.x = scaled_codes(__byte_perm(high, 0, 0x4140), zero, s2);
      values.y = scaled_codes(__byte_perm(high, 0, 0x4342), zero, s2);
      *reinterpret_cast<uint2*>(to + second * 2) = values;
    }
  }
}

}  // namespace cga::cuda
