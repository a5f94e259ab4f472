// Σ level · deviation · basis over the components of some units, for some channels: decoding, and what coding
// subtracts. A CTA has a piece of channels, all of one scale of the basis, and one or two units; its warps
// divide the components: step s, 16 of them, is warp s % 8's. So each warp reads its codes and turns them
// into operands by itself, nothing is shared until sums are added up, in the order of warps, and a value
// depends on its unit's codes and the transform only.
#pragma once

#include "kernels/cuda/latent/operand.cuh"
#include "kernels/cuda/latent/params.h"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/every_device.h"

namespace cga::cuda {

inline constexpr int codec_warps = 8, codec_threads = 32 * codec_warps;

/// What a warp reads for one step, on its way from global memory. f16 of wide components is not among it:
/// they are a step or two of a warp, come to the second cache ahead, and go to registers.
template <int panels, int units>
struct DecodeSlot {
  uint4 basis[panels][32];
  std::uint8_t codes[units][step_components * unit_tokens];  // as many as there are at 8 bits
  float factors[step_components];
};

__device__ inline void prefetch(const void* from) {
  asm volatile("prefetch.L2 [%0];" ::"l"(from));
}

/// Steps under way in a warp: all together 50 to 65 KB a CTA, so that two fit a multiprocessor of 8.0 or 9.0,
/// and one where there are 100 KB.
template <int panels, int units>
constexpr int ring_slots = panels == 1  ? 8
                           : units == 1 ? 6
                                        : 4;

/// Floats of a token's sums: lanes differ in bank.
template <int panels>
constexpr int sum_stride() {
  return panels * panel_channels + 4;
}

template <int panels, int units>
constexpr int decode_shared_bytes() {
  constexpr int ring =
      codec_warps * ring_slots<panels, units> * static_cast<int>(sizeof(DecodeSlot<panels, units>));
  constexpr int sums = codec_warps * unit_tokens * sum_stride<panels>() * 4;
  return ring > sums ? ring : sums;
}

/// Codes of components 4t to 4t + 3 of tokens g and g + 8.
/// @param packed  [16 components, 2 · bits], in shared memory
template <int bits>
__device__ inline void read_codes(const std::uint8_t* packed, int g, int t, int (&codes)[4][2]) {
  if constexpr (bits == 8) {
    for (int j = 0; j < 4; ++j) {
      for (int h = 0; h < 2; ++h) codes[j][h] = packed[(4 * t + j) * unit_tokens + g + 8 * h];
    }
  } else if constexpr (bits == 4) {
    const auto* from = reinterpret_cast<const uint2*>(packed) + 4 * t;
    for (int j = 0; j < 4; ++j) {
      codes[j][0] = from[j].x >> 4 * g & 15;
      codes[j][1] = from[j].y >> 4 * g & 15;
    }
  } else if constexpr (bits == 2) {
    const uint4 from = reinterpret_cast<const uint4*>(packed)[t];
    const std::uint32_t words[4] = {from.x, from.y, from.z, from.w};
    for (int j = 0; j < 4; ++j) {
      codes[j][0] = words[j] >> 2 * g & 3;
      codes[j][1] = words[j] >> (2 * g + 16) & 3;
    }
  } else {
    const uint2 from = reinterpret_cast<const uint2*>(packed)[t];
    const std::uint32_t words[4] = {from.x, from.x >> 16, from.y, from.y >> 16};
    for (int j = 0; j < 4; ++j) {
      codes[j][0] = words[j] >> g & 1;
      codes[j][1] = words[j] >> (g + 8) & 1;
    }
  }
}

/// Operand B: components as rows, tokens 0 to 7 and 8 to 15 as columns. As the sum of `terms` f16.
template <int terms>
struct Components {
  std::uint32_t pairs[terms][2][2];  // [][tokens / 8][rows 2t and 2t + 1, 2t + 8 and 2t + 9]

  __device__ void set(int half, int rows, float x, float y) {
    if constexpr (terms == 1) {
      pairs[0][half][rows] = pack<__half>(x, y);
    } else {
      const SplitPair both = split<__half>(x, y);
      pairs[0][half][rows] = both.high;
      pairs[1][half][rows] = both.low;
    }
  }
};

/// @param levels   [16], of the width
/// @param factors  [16], of the step
template <int bits, int terms>
__device__ inline Components<terms> dequantise(const std::uint8_t* packed, const float* levels,
                                               const float* factors, int g, int t) {
  int codes[4][2];
  read_codes<bits>(packed, g, t, codes);
  const float4 four = reinterpret_cast<const float4*>(factors)[t];
  const float factor[4] = {four.x, four.y, four.z, four.w};
  float y[4][2];
  for (int j = 0; j < 4; ++j) {
    for (int h = 0; h < 2; ++h) {
      const int code = codes[j][h];
      const float level = bits == 8 ? (static_cast<float>(code) - 127.5f) * (11.0f / 255.0f) : levels[code];
      y[j][h] = level * factor[j];
    }
  }
  Components<terms> result;
  for (int h = 0; h < 2; ++h) {
    result.set(h, 0, y[0][h], y[1][h]);
    result.set(h, 1, y[2][h], y[3][h]);
  }
  return result;
}

/// The steps of one warp.
template <int panels, int units, int terms>
class DecodeWarp {
 public:
  using Slot = DecodeSlot<panels, units>;
  static constexpr int slots = ring_slots<panels, units>;

  /// @param ring  [slots], the warp's own
  __device__ DecodeWarp(const DecodeUnitsArgs& args, int first_channel, int first_unit, Slot* ring)
      : args_(args),
        panel_(first_channel / panel_channels),
        factors_(args.latent.factor +
                 std::int64_t{first_channel / static_cast<int>(basis_scale_channels)} * args.latent.m),
        ring_(ring) {
    for (int u = 0; u < units; ++u) {
      // What lies behind the last unit is decoded, and not written.
      const int at = min(first_unit + u, args.n_units - 1);
      coded_[u] = args.coded + args.units[at] * args.unit_bytes;
    }
  }

  /// @param levels  [3, 16], in shared memory
  __device__ void run(const float (*levels)[16]) {
    const int n_steps = args_.n_blocks * block_steps;
    int next = threadIdx.x / 32;
    for (int i = 0; i < slots - 1; ++i, next += codec_warps) fetch(next, n_steps, i);
    int slot = 0;
    for (int step = threadIdx.x / 32; step < n_steps; step += codec_warps, next += codec_warps) {
      wait_copies<slots - 2>();
      __syncwarp();  // others' copies are there, and nobody reads the slot before this one any more
      fetch(next, n_steps, slot == 0 ? slots - 1 : slot - 1);
      multiply(step, ring_[slot], levels);
      slot = slot + 1 < slots ? slot + 1 : 0;
    }
    wait_copies<0>();
  }

  float sums[units][2 * panels][2][4] = {};  // of (16 channels, 8 tokens): as mma's c

 private:
  __device__ void fetch(int step, int n_steps, int slot_index) {
    if (step < n_steps) {
      Slot& slot = ring_[slot_index];
      const int lane = threadIdx.x % 32, w = args_.latent.w;
      const CodedBlock block = args_.blocks[step / block_steps];
      const int in_block = step % block_steps, component = block.component + in_block * step_components;
      const int bytes = step_components * unit_tokens / 8 * block.bits;
      if (16 * lane < bytes) {
        const int at = block.offset + in_block * bytes + 16 * lane;
        for (int u = 0; u < units; ++u) copy_async(shared_address(&slot.codes[u][16 * lane]), coded_[u] + at);
      }
      if (4 * lane < step_components) {
        copy_async(shared_address(&slot.factors[4 * lane]), factors_ + component + 4 * lane);
      }
      if (component < w) {
        for (int p = 0; p < panels; ++p) {
          prefetch(wide_part(p, component));
          prefetch(wide_part(p, component) + 32);
        }
      } else {
        const std::int64_t panel_steps = (args_.latent.m - w) / step_components;
        for (int p = 0; p < panels; ++p) {
          const std::int64_t part = (panel_ + p) * panel_steps + (component - w) / step_components;
          copy_async(shared_address(&slot.basis[p][lane]),
                     reinterpret_cast<const uint4*>(args_.latent.narrow) + part * 32 + lane);
        }
      }
    }
    commit_copies();
  }

  template <int bits>
  __device__ static void dequantise_all(const Slot& slot, const float* levels,
                                        Components<terms> (&y)[units]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int u = 0; u < units; ++u) {
      y[u] = dequantise<bits, terms>(slot.codes[u], levels, slot.factors, lane / 4, lane % 4);
    }
  }

  /// A lane's 16 bytes of the first 16 channels of a panel; those of the others are 32 further.
  __device__ const uint4* wide_part(int panel, int component) const {
    const std::int64_t part =
        std::int64_t{panel_ + panel} * (args_.latent.w / step_components) + component / step_components;
    return reinterpret_cast<const uint4*>(args_.latent.wide) + part * 64 + threadIdx.x % 32;
  }

  __device__ void multiply(int step, const Slot& slot, const float (*levels)[16]) {
    const int lane = threadIdx.x % 32, w = args_.latent.w;
    const CodedBlock block = args_.blocks[step / block_steps];
    const int component = block.component + step % block_steps * step_components;
    Components<terms> y[units];
    switch (block.bits) {
      case 1:
        dequantise_all<1>(slot, levels[0], y);
        break;
      case 2:
        dequantise_all<2>(slot, levels[1], y);
        break;
      case 4:
        dequantise_all<4>(slot, levels[2], y);
        break;
      default:
        dequantise_all<8>(slot, nullptr, y);
    }
    std::uint32_t a[4];
    for (int p = 0; p < panels; ++p) {
      if (component < w) {
        const uint4* const from = wide_part(p, component);
        const uint4 parts[2] = {from[0], from[32]};
        for (int i = 0; i < 2; ++i) {
          take_part(a, parts[i]);
          add_products(a, y, 2 * p + i);
        }
      } else {
        const uint4 part = slot.basis[p][lane];
        widen_part(a, part.x, part.y);
        add_products(a, y, 2 * p);
        widen_part(a, part.z, part.w);
        add_products(a, y, 2 * p + 1);
      }
    }
  }

  /// All first terms before the second: the next product with the same sums has to wait for this one.
  __device__ void add_products(const std::uint32_t (&a)[4], const Components<terms> (&y)[units], int tile) {
    for (int term = 0; term < terms; ++term) {
      for (int u = 0; u < units; ++u) {
        for (int h = 0; h < 2; ++h) {
          const std::uint32_t(&pairs)[2] = y[u].pairs[term][h];
          mma<__half>(sums[u][tile][h], a, pairs[0], pairs[1]);
        }
      }
    }
  }

  const DecodeUnitsArgs& args_;
  const int panel_;
  const float* const factors_;  // of the piece's tile
  Slot* const ring_;
  const std::byte* coded_[units];
};

/// A lane's sums of one unit to shared memory.  to: [16 tokens, sum_stride]
template <int panels>
__device__ inline void store_sums(const float (&sums)[2 * panels][2][4], float* to) {
  const int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
  for (int tile = 0; tile < 2 * panels; ++tile) {
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < 4; ++i) {
        const int token = 8 * h + 2 * t + i % 2, channel = 16 * tile + g + i / 2 * 8;
        to[token * sum_stride<panels>() + channel] = sums[tile][h][i];
      }
    }
  }
}

/// Grid: [units / `units`, pieces].
/// @param write  says in how many terms, and takes: write(row, channel, column, sum): row = 16 · (number of
/// the unit) + token
template <int panels, int units, class Write>
__global__ void __launch_bounds__(codec_threads, 2) decode_kernel(DecodeUnitsArgs args, Write write) {
  extern __shared__ uint4 decode_memory[];
  __shared__ float levels[3][16];
  const int warp = threadIdx.x / 32, first_unit = blockIdx.x * units;
  const Piece piece = args.pieces[blockIdx.y];
  for (int i = threadIdx.x; i < 48; i += codec_threads)
    levels[i / 16][i % 16] = args.latent.tables->levels[i / 16][i % 16];
  __syncthreads();
  using Warp = DecodeWarp<panels, units, Write::terms>;
  auto* const rings = reinterpret_cast<typename Warp::Slot*>(decode_memory);
  Warp work(args, piece.first, first_unit, rings + warp * Warp::slots);
  work.run(levels);

  constexpr int channels = panels * panel_channels, stride = sum_stride<panels>();
  auto* const sums = reinterpret_cast<float*>(decode_memory);  // [8 warps, 16 tokens, stride]
#pragma unroll
  for (int u = 0; u < units; ++u) {
    __syncthreads();  // rings, or the last unit's sums, have been read
    store_sums<panels>(work.sums[u], sums + warp * unit_tokens * stride);
    __syncthreads();
    if (first_unit + u >= args.n_units) continue;
    for (int i = threadIdx.x; i < unit_tokens * channels; i += codec_threads) {
      const int token = i / channels, channel = piece.first + i % channels;
      if (channel < piece.begin || channel >= piece.end) continue;
      float sum = 0.0f;
      for (int part = 0; part < codec_warps; ++part) {
        sum += sums[(part * unit_tokens + token) * stride + i % channels];
      }
      write(std::int64_t{first_unit + u} * unit_tokens + token, channel, piece.column + channel - piece.begin,
            sum);
    }
  }
}

template <int panels, int units, class Write>
void launch_decode_kernel(const DecodeUnitsArgs& args, const Write& write, cudaStream_t stream) {
  constexpr int shared = decode_shared_bytes<panels, units>();
  static_assert(shared <= least_shared_per_cta);
  const auto kernel = decode_kernel<panels, units, Write>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared), "decode_units");
  const dim3 grid((args.n_units + units - 1) / units, args.n_pieces);
  kernel<<<grid, codec_threads, shared, stream>>>(args, write);
  check(cudaGetLastError(), "decode_units");
}

/// x = mean + sum / scale. One f16 errs by 2e-4, which is far less than Ops::decode_units allows and codes
/// lose.
struct Reconstruct {
  static constexpr int terms = 1;
  const float *mean, *inverse_scale;  // [n], f32
  float* out;                         // [rows, row], f32
  std::int64_t row;

  __device__ void operator()(std::int64_t at, int channel, int column, float sum) const {
    out[at * row + column] = mean[channel] + sum * inverse_scale[channel];
  }
};

}  // namespace cga::cuda
