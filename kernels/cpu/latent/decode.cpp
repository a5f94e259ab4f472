// Ops::decode_units: codes of a slab of units become components, then each thread takes some of the channels.
#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "kernels/cpu/latent/cpu_latent.h"
#include "kernels/cpu/latent/latent.h"

namespace cga::cpu {
namespace {

constexpr std::int64_t thread_floats = basis_floats + max_tiles * rebuild_channels * unit_tokens;

/// Consecutive channels that one task reconstructs.
struct Piece {
  std::int64_t first_channel = 0, count = 0;
  std::int64_t column = 0;  // of its first channel in out
};

std::int64_t total(std::span<const ChannelRange> ranges) {
  std::int64_t sum = 0;
  for (const ChannelRange& range : ranges) sum += range.count;
  return sum;
}

/// Small enough that all threads have some, large enough to be worth expanding the basis for.
std::vector<Piece> cut(std::span<const ChannelRange> ranges, int n_threads) {
  constexpr std::int64_t least = 16;
  const std::int64_t even = round_up(div_up<std::int64_t>(total(ranges), 4 * n_threads), least);
  const std::int64_t size = std::clamp(even, least, rebuild_channels);
  std::vector<Piece> pieces;
  std::int64_t column = 0;
  for (const ChannelRange& range : ranges) {
    for (std::int64_t done = 0; done < range.count; done += size) {
      const std::int64_t count = std::min(size, range.count - done);
      pieces.push_back({range.first + done, count, column});
      column += count;
    }
  }
  return pieces;
}

/// x̂ = mean + ẑ / scale, token by token.  z: [count, 16]; out: rows of tokens `stride` apart
void write_rows(const CpuLatent& latent, const Piece& piece, const float* z, float* out,
                std::int64_t stride) {
  const float* mean = latent.view.mean + piece.first_channel;
  const float* inverse_scale = latent.inverse_scale.data() + piece.first_channel;
  for (std::int64_t t = 0; t < unit_tokens; ++t, out += stride) {
    for (std::int64_t c = 0; c < piece.count; ++c) {
      out[c] = mean[c] + z[c * unit_tokens + t] * inverse_scale[c];
    }
  }
}

}  // namespace

void decode_units(const DecodeParams& params, ThreadPool& pool, LatentScratch& scratch) {
  const CpuLatent& latent = cpu_latent(params.latent);
  const auto blocks = latent.layout.blocks();
  const std::int64_t depth = static_cast<std::int64_t>(blocks.size()) * block_components;
  const std::int64_t n_rows = total(params.channels);
  const auto n_units = static_cast<std::int64_t>(params.units.size());
  const std::vector<Piece> pieces = cut(params.channels, pool.size());
  scratch.components.reserve(static_cast<std::size_t>(std::min(n_units, max_tiles) * depth * unit_tokens) *
                             sizeof(float));
  scratch.threads.reserve(static_cast<std::size_t>(pool.size() * thread_floats) * sizeof(float));
  auto* const components = reinterpret_cast<float*>(scratch.components.data());

  for (std::int64_t first = 0; first < n_units; first += max_tiles) {
    const std::int64_t n_tiles = std::min(max_tiles, n_units - first);
    pool.parallel_for(n_tiles, [&](std::int64_t tile, int) {
      const std::int64_t id = params.units[static_cast<std::size_t>(first + tile)];
      const std::byte* unit = params.coded + id * latent.layout.unit_bytes();
      float* y = components + tile * depth * unit_tokens;
      for (const LatentLayout::Block& block : blocks) {
        latent.read_block(block, unit + block.unit_offset, 1.0f, y);
        y += block_components * unit_tokens;
      }
    });
    pool.parallel_for(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t task, int thread) {
      const Piece& piece = pieces[static_cast<std::size_t>(task)];
      float* basis = reinterpret_cast<float*>(scratch.threads.data()) + thread * thread_floats;
      float* z = basis + basis_floats;
      const std::int64_t tile_z = piece.count * unit_tokens;
      std::fill_n(z, n_tiles * tile_z, 0.0f);
      reconstruct({.view = &latent.view,
                   .blocks = blocks,
                   .first_channel = piece.first_channel,
                   .n_channels = piece.count,
                   .n_tiles = n_tiles,
                   .y = components,
                   .z = z,
                   .z_stride = tile_z,
                   .basis = basis});
      for (std::int64_t tile = 0; tile < n_tiles; ++tile) {
        float* out = params.out + (first + tile) * unit_tokens * n_rows + piece.column;
        write_rows(latent, piece, z + tile * tile_z, out, n_rows);
      }
    });
  }
}

}  // namespace cga::cpu
