// Ops::gather_pages and Ops::scatter_units: keys and values between this backend's pages and rows of
// channels. One warp a vector of head_dim channels: neighbours in a row are neighbours in the grid.
#include "kernels/cuda/attention/page.cuh"
#include "kernels/cuda/attention/resident_unit.cuh"
#include "kernels/cuda/latent/latent.h"
#include "kernels/cuda/runtime/check.h"
#include "tensor/i8_vector.h"

namespace cga::cuda {
namespace {

constexpr int frame_warps = 8;  // vectors a CTA

__device__ float widen(float value) {
  return value;
}
__device__ float widen(std::uint16_t value) {
  return bf16_to_f32(value);
}
__device__ void store(float value, float* to) {
  *to = value;
}
__device__ void store(float value, std::uint16_t* to) {
  *to = f32_to_bf16(value);
}

template <KvElement element>
using Stored = std::conditional_t<element == KvElement::f32, float, std::uint16_t>;

/// Which vector of a row a warp has, and the rotation of its keys.
struct FrameVector {
  int number, plane, layer, head;
  std::int64_t channel, row_channels;
  int half, lane;

  __device__ explicit FrameVector(const FrameArgs& args)
      : number(blockIdx.y * frame_warps + threadIdx.x / 32),
        half(args.layout.head_dim / 2),
        lane(threadIdx.x % 32) {
    const int a_plane = args.n_layers * args.layout.n_kv_heads;
    plane = number / a_plane;
    layer = number % a_plane / args.layout.n_kv_heads;
    head = number % args.layout.n_kv_heads;
    channel = std::int64_t{number} * args.layout.head_dim;
    row_channels = std::int64_t{2} * a_plane * args.layout.head_dim;
  }
  __device__ bool exists() const { return plane < 2; }
};

/// Where the elements of rotation pair i are in a stored key.
__device__ int2 stored_pair(RopePairs pairs, int i, int half) {
  return pairs == RopePairs::interleaved ? make_int2(2 * i, 2 * i + 1) : make_int2(i, i + half);
}

/// Elements of a vector in a page's row of keys or values.
template <KvElement element>
__device__ Stored<element>* page_row(const FrameArgs& args, const FrameVector& vector, int page, int token) {
  std::byte* const base = args.bases[vector.layer];
  const PageView<element> view{base, args.layout.n_kv_heads, args.layout.head_dim};
  const std::int64_t block = view.block(page, vector.plane, vector.head) - base;
  return reinterpret_cast<Stored<element>*>(base + block +
                                            token * code_row_bytes<element>(args.layout.head_dim));
}

/// Grid: [pages * 64, vectors / frame_warps].  x: [n, 64, channels]
template <KvElement element>
__global__ void __launch_bounds__(32 * frame_warps) gather_kernel(FrameArgs args, float* x) {
  const FrameVector v(args);
  if (!v.exists()) return;
  const int at = blockIdx.x / page_tokens, token = blockIdx.x % page_tokens;
  const Stored<element>* const from = page_row<element>(args, v, args.ids[at], token);
  float* const to = x + blockIdx.x * v.row_channels + v.channel;
  if (v.plane == 1) {
    for (int i = v.lane; i < 2 * v.half; i += 32) to[i] = widen(from[i]);
    return;
  }
  const float* const cos = args.cos_sin + std::int64_t{at} * 2 * v.half;
  const float inverse = 1.0f / args.magnitude;
  for (int i = v.lane; i < v.half; i += 32) {
    const int2 pair = stored_pair(args.pairs, i, v.half);
    const float a = widen(from[pair.x]), b = widen(from[pair.y]), c = cos[i], s = cos[v.half + i];
    to[i] = (a * c + b * s) * inverse;
    to[i + v.half] = (b * c - a * s) * inverse;
  }
}

/// Elements of pair i of a vector on its way into a page: of keys, rotated.
/// @param from  [head_dim], half-split
/// @param cos   [2, half]: cosines, then sines
__device__ float2 turned(const float* from, const float* cos, const FrameVector& v, float magnitude, int i) {
  const float a = from[i], b = from[i + v.half];
  if (v.plane == 1) return make_float2(a, b);
  const float c = cos[i], s = cos[v.half + i];
  return make_float2((a * c - b * s) * magnitude, (a * s + b * c) * magnitude);
}

/// Values have no pairs: theirs are taken half-split.
__device__ int2 place_of(const FrameArgs& args, const FrameVector& v, int i) {
  return stored_pair(v.plane == 1 ? RopePairs::halves : args.pairs, i, v.half);
}

/// i8_code, whose product and sum a compiler for GPUs would fuse: then a tie would be decided by the
/// product's rounding error.
__device__ std::int8_t unfused_code(float value, float inverse) {
  constexpr float to_integer = 12582912.0f;
  return static_cast<std::int8_t>(__fadd_rn(__fmul_rn(value, inverse), to_integer) - to_integer);
}

/// Rounds one vector to codes and a scale.
__device__ void scatter_resident(const FrameArgs& args, const FrameVector& v, int unit, int token,
                                 const float* from, const float* cos) {
  float largest = 0.0f;
  for (int i = v.lane; i < v.half; i += 32) {
    const float2 pair = turned(from, cos, v, args.magnitude, i);
    largest = fmaxf(largest, fmaxf(fabsf(pair.x), fabsf(pair.y)));
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, lanes));
  }
  const I8Scale scale = i8_scale(largest);
  const bool is_key = v.plane == 0;
  const std::int64_t codes_at =
      is_key ? key_offset(args.layout, unit, v.head, token) : value_offset(args.layout, unit, v.head, token);
  const std::int64_t scale_at = is_key ? key_scale_offset(args.layout, unit, v.head, token)
                                       : value_scale_offset(args.layout, unit, v.head, token);
  auto* const codes = reinterpret_cast<std::int8_t*>(args.bases[v.layer] + codes_at);
  if (v.lane == 0) *reinterpret_cast<std::uint16_t*>(args.scales[v.layer] + scale_at) = scale.stored;
  for (int i = v.lane; i < v.half; i += 32) {
    const float2 pair = turned(from, cos, v, args.magnitude, i);
    const int2 place = place_of(args, v, i);
    codes[place.x] = unfused_code(pair.x, scale.inverse);
    codes[place.y] = unfused_code(pair.y, scale.inverse);
  }
}

/// Grid: [units * 16, vectors / frame_warps].  x: [n, 16, channels]
template <KvElement element>
__global__ void __launch_bounds__(32 * frame_warps) scatter_kernel(FrameArgs args, const float* x) {
  const FrameVector v(args);
  if (!v.exists()) return;
  const int at = blockIdx.x / unit_tokens, token = blockIdx.x % unit_tokens;
  const float* const from = x + blockIdx.x * v.row_channels + v.channel;
  const float* const cos = args.cos_sin + std::int64_t{at} * 2 * v.half;
  const int unit = args.ids[at];
  if constexpr (element == KvElement::i8) {
    scatter_resident(args, v, unit, token, from, cos);
  } else {
    Stored<element>* const to =
        page_row<element>(args, v, unit / page_units, unit % page_units * unit_tokens + token);
    for (int i = v.lane; i < v.half; i += 32) {
      const float2 pair = turned(from, cos, v, args.magnitude, i);
      const int2 place = place_of(args, v, i);
      store(pair.x, to + place.x);
      store(pair.y, to + place.y);
    }
  }
}

dim3 frame_grid(const FrameArgs& args, std::int32_t tokens) {
  const int vectors = 2 * args.n_layers * args.layout.n_kv_heads;
  return dim3(args.n * tokens, (vectors + frame_warps - 1) / frame_warps);
}

}  // namespace

void gather_pages(const FrameArgs& args, float* x, cudaStream_t stream) {
  if (args.n == 0 || args.n_layers == 0) return;
  const dim3 grid = frame_grid(args, page_tokens);
  args.layout.element == KvElement::f32
      ? gather_kernel<KvElement::f32><<<grid, 32 * frame_warps, 0, stream>>>(args, x)
      : gather_kernel<KvElement::bf16><<<grid, 32 * frame_warps, 0, stream>>>(args, x);
  check(cudaGetLastError(), "gather_pages");
}

void scatter_units(const FrameArgs& args, const float* x, cudaStream_t stream) {
  if (args.n == 0 || args.n_layers == 0) return;
  const dim3 grid = frame_grid(args, unit_tokens);
  switch (args.layout.element) {
    case KvElement::f32:
      scatter_kernel<KvElement::f32><<<grid, 32 * frame_warps, 0, stream>>>(args, x);
      break;
    case KvElement::bf16:
      scatter_kernel<KvElement::bf16><<<grid, 32 * frame_warps, 0, stream>>>(args, x);
      break;
    case KvElement::i8:
      scatter_kernel<KvElement::i8><<<grid, 32 * frame_warps, 0, stream>>>(args, x);
      break;
    case KvElement::q8:
    case KvElement::q4:
      return;  // never a stage of the archive
  }
  check(cudaGetLastError(), "scatter_units");
}

}  // namespace cga::cuda
