// A unit of residents (i8) in the products of decode_unit.cuh, beside units of bf16: the same queries, the
// same sums, the same dims in the same registers, so that one warp may walk both kinds in turn.
//
// Codes become whole numbers in bf16, which holds them exactly up to 128; a key's scale multiplies its score,
// a value's its weight. So residents, too, only meet the roundings of f32.
#pragma once

#include "base/half.h"
#include "kernels/cuda/attention/decode_unit.cuh"
#include "kernels/cuda/attention/resident_unit.cuh"

namespace cga::cuda {

/// A unit's keys and values in shared memory, where one of bf16 would lie. Rows are padded so that the
/// threads of a load hit all banks: 8 rows of 8 bytes of keys, 4 rows of 8 bytes of values, each row of them
/// two on.
template <int head_dim>
struct ResidentBuffer {
  static constexpr int pitch = head_dim + 16;
  static constexpr int value_codes = unit_tokens * pitch;
  static constexpr int scale_row = unit_tokens * 2;  // all tokens' scales, bf16
  static constexpr int key_scales = 2 * value_codes;
  static constexpr int value_scales = key_scales + scale_row;
  static constexpr int bytes = value_scales + scale_row;
  static_assert(bytes <= UnitBuffer<KvElement::bf16, head_dim>::bytes);
  static_assert(pitch % 16 == 0 && key_scales % 16 == 0 && scale_row % 16 == 0);
};

/// One warp begins to copy a unit of residents, all of whose tokens count.
/// @param buffer  [ResidentBuffer::bytes], address in shared memory
template <int head_dim>
__device__ inline void copy_resident(std::uint32_t buffer, const Residents& residents, int unit,
                                     int kv_head) {
  using Buffer = ResidentBuffer<head_dim>;
  constexpr int chunks = head_dim / 16;  // a row
  static_assert(32 % chunks == 0);
  const int lane = threadIdx.x % 32;
  const KvLayout layout{residents.layout.n_kv_heads, head_dim, KvElement::i8};
#pragma unroll
  for (int plane = 0; plane < 2; ++plane) {
    const std::int64_t number =
        plane == 0 ? resident_key(layout, unit, kv_head, 0) : resident_value(layout, unit, kv_head, 0);
    const std::byte* from = residents.base + number * head_dim;
    const std::uint32_t own =
        buffer + plane * Buffer::value_codes + lane / chunks * Buffer::pitch + lane % chunks * 16;
#pragma unroll
    for (int row = 0; row < unit_tokens; row += 32 / chunks) {  // rows are contiguous in the unit
      copy_async(own + row * Buffer::pitch, from + row * head_dim + lane * 16);
    }
    if (lane < Buffer::scale_row / 16) {
      copy_async(buffer + (plane == 0 ? Buffer::key_scales : Buffer::value_scales) + lane * 16,
                 residents.scales + number * 2 + lane * 16);
    }
  }
}

/// Two codes, in bytes 0 and 2 of x, as two bf16: of code c, 128 + (c & 127) less 128, or less 256 if c < 0.
__device__ inline std::uint32_t code_pair(std::uint32_t x) {
  const std::uint32_t low = (x & 0x007f007fu) | 0x43004300u, sign = (x & 0x00800080u) | 0x43004300u;
  const __nv_bfloat162 pair =
      __hsub2(reinterpret_cast<const __nv_bfloat162&>(low), reinterpret_cast<const __nv_bfloat162&>(sign));
  return reinterpret_cast<const std::uint32_t&>(pair);
}

/// The scale of token g (half 0) or g + 8 (half 1).
__device__ inline float resident_scale(const std::byte* scales, int half) {
  const int g = threadIdx.x % 32 / 4;
  return bf16_to_f32(reinterpret_cast<const std::uint16_t*>(scales)[g + 8 * half]);
}

/// As unit_scores<bf16> of a unit of residents.
template <int head_dim>
__device__ inline void resident_scores(float (&scores)[4], const QueryFragments<head_dim>& q,
                                       const std::byte* buffer) {
  using Buffer = ResidentBuffer<head_dim>;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  float parts[2][4] = {};
#pragma unroll
  for (int step = 0; step < head_dim / 16; ++step) {
    std::uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // token g or g + 8, dims from 2t or 2t + 8 of 16
      const std::byte* at = buffer + (g + i % 2 * 8) * Buffer::pitch + 16 * step + 2 * t + i / 2 * 8;
      const std::uint32_t codes = *reinterpret_cast<const std::uint16_t*>(at);
      a[i] = code_pair(__byte_perm(codes, 0, 0x4140));
    }
    const SplitPair(&b)[2] = q.pairs[step];
    mma<__nv_bfloat16>(parts[step % 2], a, b[0].high, b[1].high);
    mma<__nv_bfloat16>(parts[step % 2], a, b[0].low, b[1].low);
  }
  const float scale[2] = {resident_scale(buffer + Buffer::key_scales, 0),
                          resident_scale(buffer + Buffer::key_scales, 1)};
#pragma unroll
  for (int i = 0; i < 4; ++i) scores[i] = scale[i / 2] * (parts[0][i] + parts[1][i]);
}

/// As add_values<bf16> of a unit of residents.
template <int head_dim>
__device__ inline void add_resident_values(float (&sums)[head_dim / 16][4], const float (&weights)[4],
                                           const std::byte* buffer) {
  using Buffer = ResidentBuffer<head_dim>;
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const std::byte* values = buffer + Buffer::value_codes;
  SplitPair b[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {  // tokens g, then g + 8: rows become columns
    const float scale = resident_scale(buffer + Buffer::value_scales, half);
    const SplitPair pair = split<__nv_bfloat16>(weights[2 * half] * scale, weights[2 * half + 1] * scale);
    b[half] = {transpose(pair.high), transpose(pair.low)};
  }
#pragma unroll
  for (int tile = 0; tile < head_dim / 16; ++tile) {
    std::uint32_t a[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // dim g or g + 8 of 16, tokens 2t and 2t + 1 or 2t + 8 and 2t + 9
      const std::byte* at = values + (2 * t + i / 2 * 8) * Buffer::pitch + 16 * tile + g + i % 2 * 8;
      const auto first = static_cast<std::uint32_t>(at[0]),
                 second = static_cast<std::uint32_t>(at[Buffer::pitch]);
      a[i] = code_pair(first | second << 16);
    }
    mma<__nv_bfloat16>(sums[tile], a, b[0].high, b[1].high);
    mma<__nv_bfloat16>(sums[tile], a, b[0].low, b[1].low);
  }
}

}  // namespace cga::cuda
