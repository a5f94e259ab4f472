// Ops::decode_units: codes of a slab of units become components, then each thread takes some of the channels.
#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "kernels/cpu/latent/cpu_latent.h"
#include "kernels/cpu/latent/latent.h"

namespace cga::cpu {
namespace {

constexpr std::int64_t thread_floats = expanded_floats + max_units * tile_channels * unit_tokens;

/// Consecutive channels of one tile that one task reconstructs.
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
  const std::int64_t size = std::clamp(even, least, tile_channels);
  std::vector<Piece> pieces;
  std::int64_t column = 0;
  for (const ChannelRange& range : ranges) {
    const std::int64_t end = range.first + range.count;
    for (std::int64_t first = range.first; first < end;) {
      const std::int64_t tile_end = round_up(first + 1, tile_channels);
      const std::int64_t count = std::min({size, end - first, tile_end - first});
      pieces.push_back({first, count, column});
      first += count;
      column += count;
    }
  }
  return pieces;
}

/// x̂ = mean + ẑ / scale, token by token.  z: [count, 16]; out: rows of tokens `stride` apart
void write_rows(const CpuLatent& latent, const Piece& piece, const float* z, float* out,
                std::int64_t stride) {
  const float* mean = latent.mean.data() + piece.first_channel;
  const float* inverse_scale = latent.inverse_scale.data() + piece.first_channel;
  for (std::int64_t t = 0; t < unit_tokens; ++t, out += stride) {
    for (std::int64_t c = 0; c < piece.count; ++c) {
      out[c] = mean[c] + z[c * unit_tokens + t] * inverse_scale[c];
    }
  }
}

/// ŷ of some units.  y: [units.size(), 64 * blocks, 16]
void read_units(const DecodeParams& params, std::span<const std::int32_t> units, ThreadPool& pool, float* y) {
  const auto blocks = params.layout->blocks();
  constexpr std::int64_t block_y = block_components * unit_tokens;
  pool.parallel_for(static_cast<std::int64_t>(units.size()), [&](std::int64_t u, int) {
    const std::byte* unit = params.coded + units[static_cast<std::size_t>(u)] * params.layout->unit_bytes();
    float* to = y + u * static_cast<std::int64_t>(blocks.size()) * block_y;
    for (const LatentLayout::Block& block : blocks) {
      cpu_latent(params.latent).read_block(block, unit + block.unit_offset, 1.0f, to);
      to += block_y;
    }
  });
}

}  // namespace

void decode_units(const DecodeParams& params, ThreadPool& pool, LatentScratch& scratch) {
  const CpuLatent& latent = cpu_latent(params.latent);
  const auto blocks = params.layout->blocks();
  const std::int64_t n_rows = total(params.channels);
  const std::vector<Piece> pieces = cut(params.channels, pool.size());
  const std::size_t most = std::min<std::size_t>(params.units.size(), max_units);
  scratch.components.reserve(most * blocks.size() * block_components * unit_tokens * sizeof(float));
  scratch.threads.reserve(static_cast<std::size_t>(pool.size() * thread_floats) * sizeof(float));
  auto* const y = reinterpret_cast<float*>(scratch.components.data());

  for (std::size_t first = 0; first < params.units.size(); first += max_units) {
    const auto units =
        params.units.subspan(first, std::min<std::size_t>(max_units, params.units.size() - first));
    const auto n_units = static_cast<std::int64_t>(units.size());
    float* const rows = params.out + static_cast<std::int64_t>(first) * unit_tokens * n_rows;
    read_units(params, units, pool, y);
    pool.parallel_for(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t task, int thread) {
      const Piece& piece = pieces[static_cast<std::size_t>(task)];
      float* expanded = reinterpret_cast<float*>(scratch.threads.data()) + thread * thread_floats;
      float* z = expanded + expanded_floats;
      const std::int64_t unit_z = piece.count * unit_tokens;
      std::fill_n(z, n_units * unit_z, 0.0f);
      reconstruct({.basis = latent.basis,
                   .blocks = blocks,
                   .first_channel = piece.first_channel,
                   .n_channels = piece.count,
                   .n_units = n_units,
                   .y = y,
                   .z = z,
                   .z_stride = unit_z,
                   .expanded = expanded});
      for (std::int64_t unit = 0; unit < n_units; ++unit) {
        write_rows(latent, piece, z + unit * unit_z, rows + unit * unit_tokens * n_rows + piece.column,
                   n_rows);
      }
    });
  }
}

}  // namespace cga::cpu
