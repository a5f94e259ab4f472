// One unit (16 tokens) of one KV head in shared memory, and its products with up to 8 query heads on tensor
// cores: scores[16, 8] = keys · queries and sums[head_dim, 8] += values^T · weights. Keys and values are the
// A operand (tokens, then dims, are its 16 rows), so that 8 heads are a whole tile.
//
// Codes of q8 and q4 become whole numbers in bf16, which holds them exactly; a key's scales multiply the
// partial sum of each 32 dims, a value's scales the weights. Queries and weights are split in two bf16. So
// the only roundings that matter are those of f32: results meet the tolerance of Ops::attend.
#pragma once

#include "kernels/cuda/attention/mma.cuh"
#include "kernels/cuda/attention/page.cuh"

namespace cga::cuda {

using bf16 = __nv_bfloat16;

/// A unit's keys and values in shared memory. Rows are padded so that the threads of a load hit all banks.
template <KvElement element, int head_dim>
struct UnitBuffer {
  static constexpr int code_row = code_row_bytes<element>(head_dim);
  static constexpr int scale_row = scale_row_bytes<element>(head_dim);
  static constexpr int key_pitch = code_row + (element == KvElement::q8 ? 32 : 16);
  static constexpr int value_pitch = code_row + 16;
  static constexpr int value_codes = unit_tokens * key_pitch;
  static constexpr int key_scales = value_codes + unit_tokens * value_pitch;
  static constexpr int value_scales = key_scales + unit_tokens * scale_row;
  static constexpr int bytes = value_scales + unit_tokens * scale_row;
  static_assert(bytes % 16 == 0);
};

/// One warp begins to copy a unit; tokens from n_valid on become zeros, whatever the page holds.
/// @param buffer  [UnitBuffer::bytes], address in shared memory
template <KvElement element, int head_dim>
__device__ inline void copy_unit(std::uint32_t buffer, const PageView<element>& pages, int unit_id,
                                 int kv_head, int n_valid) {
  using Buffer = UnitBuffer<element, head_dim>;
  constexpr int chunks = Buffer::code_row / 16;  // a row
  static_assert(32 % chunks == 0);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int plane = 0; plane < 2; ++plane) {
    const UnitAddress from = pages.unit(unit_id, plane, kv_head);
    const std::uint32_t codes = buffer + (plane == 0 ? 0 : Buffer::value_codes);
    const int pitch = plane == 0 ? Buffer::key_pitch : Buffer::value_pitch;
    const std::uint32_t own = codes + lane / chunks * pitch + lane % chunks * 16;
#pragma unroll
    for (int row = 0; row < unit_tokens; row += 32 / chunks) {  // rows are contiguous in the page
      copy_async(own + row * pitch, from.codes + row * Buffer::code_row + lane * 16,
                 lane / chunks + row < n_valid ? 16 : 0);
    }
    if constexpr (Buffer::scale_row > 0) {
      if (lane < unit_tokens * Buffer::scale_row / 16) {
        const int valid = min(max(n_valid * Buffer::scale_row - lane * 16, 0), 16);
        copy_async(buffer + (plane == 0 ? Buffer::key_scales : Buffer::value_scales) + lane * 16,
                   from.scales + lane * 16, valid);
      }
    }
  }
}

/// The dim of a query's element i of register r (b0, b1) at k-step `step`: the order in which key_codes
/// delivers a key's dims.
template <KvElement element>
__device__ inline int query_dim(int step, int t, int r, int i) {
  if (element == KvElement::bf16) return 16 * step + 8 * r + 2 * t + i;
  const int block = step / 2 * 32 + 8 * t;
  return element == KvElement::q8 ? block + step % 2 * 4 + 2 * r + i : block + step % 2 * 2 + r + 4 * i;
}

/// The dim of row g (half 0) or g + 8 (half 1) of the tile-th 16 rows of sums.
template <KvElement element>
__device__ inline int sum_dim(int tile, int g, int half) {
  if (element == KvElement::bf16) return 16 * tile + g + 8 * half;
  return tile / 2 * 32 + 4 * g + tile % 2 * 2 + half;
}

/// Bytes 0 and 2 of x (signed) as two bf16. The low 7 bits are the mantissa of 128 + …, the sign bit chooses
/// whether 128 or 256 goes off.
__device__ inline std::uint32_t signed_bytes(std::uint32_t x) {
  const std::uint32_t above = (x & 0x007f007fu) | 0x43004300u, base = (x & 0x00800080u) | 0x43004300u;
  const __nv_bfloat162 difference =
      __hsub2(reinterpret_cast<const __nv_bfloat162&>(above), reinterpret_cast<const __nv_bfloat162&>(base));
  return reinterpret_cast<const std::uint32_t&>(difference);
}

/// Bits 0 to 3 and 16 to 19 of x, each less 8, as two bf16.
__device__ inline std::uint32_t low_nibbles(std::uint32_t x) {
  const std::uint32_t above = (x & 0x000f000fu) | 0x43004300u, base = 0x43084308u;  // 128 + code, 128 + 8
  const __nv_bfloat162 difference =
      __hsub2(reinterpret_cast<const __nv_bfloat162&>(above), reinterpret_cast<const __nv_bfloat162&>(base));
  return reinterpret_cast<const std::uint32_t&>(difference);
}

/// A operands of 32 dims of keys (two k-steps). Row g is token g.
/// @param keys  the unit's codes
template <KvElement element, int head_dim>
__device__ inline void key_codes(std::uint32_t (&a)[2][4], const std::byte* keys, int block) {
  constexpr int pitch = UnitBuffer<element, head_dim>::key_pitch;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  if constexpr (element == KvElement::bf16) {
    const std::uint32_t row = shared_address(keys) + lane % 16 * pitch + lane / 16 * 16 + block * 64;
    load_matrices(a[0], row);
    load_matrices(a[1], row + 32);
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::byte* row = keys + (g + 8 * half) * pitch;
      if constexpr (element == KvElement::q8) {
        const uint2 codes = *reinterpret_cast<const uint2*>(row + block * 32 + t * 8);
        a[0][half] = signed_bytes(__byte_perm(codes.x, 0, 0x4140));
        a[0][half + 2] = signed_bytes(__byte_perm(codes.x, 0, 0x4342));
        a[1][half] = signed_bytes(__byte_perm(codes.y, 0, 0x4140));
        a[1][half + 2] = signed_bytes(__byte_perm(codes.y, 0, 0x4342));
      } else {
        const std::uint32_t codes = *reinterpret_cast<const std::uint32_t*>(row + block * 16 + t * 4);
        a[0][half] = low_nibbles(codes);
        a[0][half + 2] = low_nibbles(codes >> 4);
        a[1][half] = low_nibbles(codes >> 8);
        a[1][half + 2] = low_nibbles(codes >> 12);
      }
    }
  }
}

/// A operands of 32 dims of values, transposed: rows are dims (sum_dim), columns tokens.
/// @param values  the unit's codes
template <KvElement element, int head_dim>
__device__ inline void value_codes(std::uint32_t (&a)[2][4], const std::byte* values, int block) {
  constexpr int pitch = UnitBuffer<element, head_dim>::value_pitch;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  if constexpr (element == KvElement::bf16) {
    const std::uint32_t row =
        shared_address(values) + (lane % 8 + lane / 16 * 8) * pitch + lane / 8 % 2 * 16 + block * 64;
    load_matrices_transposed(a[0], row);
    load_matrices_transposed(a[1], row + 32);
  } else {
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // tokens 2t and 2t + 1, then 2t + 8 and 2t + 9
      const std::byte* row = values + (2 * t + 8 * half) * pitch;
      if constexpr (element == KvElement::q8) {
        const auto first = *reinterpret_cast<const std::uint32_t*>(row + block * 32 + g * 4);
        const auto second = *reinterpret_cast<const std::uint32_t*>(row + pitch + block * 32 + g * 4);
        a[0][2 * half] = signed_bytes(__byte_perm(first, second, 0x4440));
        a[0][2 * half + 1] = signed_bytes(__byte_perm(first, second, 0x5551));
        a[1][2 * half] = signed_bytes(__byte_perm(first, second, 0x6662));
        a[1][2 * half + 1] = signed_bytes(__byte_perm(first, second, 0x7773));
      } else {
        const int at = block / 2 * 32 + g * 4;  // a word of both 32 dims of 64 (page.cuh)
        const auto first = *reinterpret_cast<const std::uint32_t*>(row + at);
        const auto second = *reinterpret_cast<const std::uint32_t*>(row + pitch + at);
        const std::uint32_t codes = __byte_perm(first, second, block % 2 == 0 ? 0x5410 : 0x7632);
        a[0][2 * half] = low_nibbles(codes);
        a[0][2 * half + 1] = low_nibbles(codes >> 4);
        a[1][2 * half] = low_nibbles(codes >> 8);
        a[1][2 * half + 1] = low_nibbles(codes >> 12);
      }
    }
  }
}

/// The queries of a tile of heads as B operands.
template <int head_dim>
struct QueryFragments {
  SplitPair pairs[head_dim / 16][2];  // [k-step, register]
};

/// @param queries  [tile_heads, head_dim + 4], f32, in shared memory
template <KvElement element, int head_dim>
__device__ inline void load_queries(QueryFragments<head_dim>& q, const float* queries) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  const float* head = queries + g * (head_dim + 4);
#pragma unroll
  for (int step = 0; step < head_dim / 16; ++step) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      q.pairs[step][r] =
          split(head[query_dim<element>(step, t, r, 0)], head[query_dim<element>(step, t, r, 1)]);
    }
  }
}

/// scores[token g or g + 8][heads 2t, 2t + 1] of a unit, as c of mma.
template <KvElement element, int head_dim>
__device__ inline void unit_scores(float (&scores)[4], const QueryFragments<head_dim>& q,
                                   const std::byte* buffer) {
  using Buffer = UnitBuffer<element, head_dim>;
  const int g = threadIdx.x % 32 / 4;
  const auto* scales = reinterpret_cast<const __half*>(buffer + Buffer::key_scales);
  float parts[2][4] =
      {};  // of codes: a block's; else two chains, since a chain's products wait for each other
#pragma unroll
  for (int i = 0; i < 4; ++i) scores[i] = 0;
#pragma unroll
  for (int block = 0; block < head_dim / 32; ++block) {
    std::uint32_t a[2][4];
    key_codes<element, head_dim>(a, buffer, block);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      const SplitPair(&b)[2] = q.pairs[2 * block + k];
      mma<bf16>(parts[k], a[k], b[0].high, b[1].high);
      mma<bf16>(parts[k], a[k], b[0].low, b[1].low);
    }
    if constexpr (Buffer::scale_row > 0) {
      const float scale[2] = {__half2float(scales[g * (head_dim / 32) + block]),
                              __half2float(scales[(g + 8) * (head_dim / 32) + block])};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[i] += scale[i / 2] * (parts[0][i] + parts[1][i]);
        parts[0][i] = parts[1][i] = 0;
      }
    }
  }
  if constexpr (Buffer::scale_row == 0) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[i] = parts[0][i] + parts[1][i];
  }
}

/// sums += values^T · weights, as c of mma for each 16 dims.
/// @param weights  as unit_scores leaves them
template <KvElement element, int head_dim>
__device__ inline void add_values(float (&sums)[head_dim / 16][4], const float (&weights)[4],
                                  const std::byte* buffer) {
  using Buffer = UnitBuffer<element, head_dim>;
  const int g = threadIdx.x % 32 / 4;
  const auto* scales = reinterpret_cast<const __half*>(buffer + Buffer::value_scales);
  SplitPair b[2];
#pragma unroll
  for (int block = 0; block < head_dim / 32; ++block) {
    if (Buffer::scale_row > 0 || block == 0) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {  // tokens g, then g + 8: rows become columns
        float scale = 1;
        if constexpr (Buffer::scale_row > 0) {
          scale = __half2float(scales[(g + 8 * half) * (head_dim / 32) + block]);
        }
        const SplitPair pair = split(weights[2 * half] * scale, weights[2 * half + 1] * scale);
        b[half] = {transpose(pair.high), transpose(pair.low)};
      }
    }
    std::uint32_t a[2][4];
    value_codes<element, head_dim>(a, buffer + Buffer::value_codes, block);
#pragma unroll
    for (int k = 0; k < 2; ++k) {
      mma<bf16>(sums[2 * block + k], a[k], b[0].high, b[1].high);
      mma<bf16>(sums[2 * block + k], a[k], b[0].low, b[1].low);
    }
  }
}

}  // namespace cga::cuda
