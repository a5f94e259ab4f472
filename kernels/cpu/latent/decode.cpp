// Ops::decode_units: codes of a slab of units become components, then each thread takes some of the channels.
#include <algorithm>
#include <vector>

#include "base/checked.h"
#include "kernels/cpu/latent/cpu_latent.h"
#include "kernels/cpu/latent/latent.h"

namespace cga::cpu {
namespace {

using Blocks = std::span<const LatentLayout::Block>;

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

/// Small enough that all threads have some, large enough for the work that is done once a piece.
std::vector<Piece> cut(std::span<const ChannelRange> ranges, int n_threads) {
  const std::int64_t even = round_up(div_up<std::int64_t>(total(ranges), 3 * n_threads), panel_channels);
  const std::int64_t size = std::clamp(even, panel_channels, tile_channels);
  std::vector<Piece> pieces;
  std::int64_t column = 0;
  for (const ChannelRange& range : ranges) {
    const std::int64_t end = range.first + range.count;
    for (std::int64_t first = range.first; first < end;) {
      const std::int64_t tile_end = round_up(first + 1, tile_channels);
      const std::int64_t panel_end = first / panel_channels * panel_channels + size;
      const std::int64_t count = std::min({panel_end, tile_end, end}) - first;
      pieces.push_back({first, count, column});
      first += count;
      column += count;
    }
  }
  return pieces;
}

/// x̂ = mean + ẑ / scale, token by token, of those channels of a panel that the piece has.
/// z: [16, 16]; out: the panel's first channel, in rows of tokens `stride` apart
void write_panel(const CpuLatent& latent, std::int64_t first, std::int64_t begin, std::int64_t end,
                 const float* z, float* out, std::int64_t stride) {
  const float* mean = latent.mean.data() + first;
  const float* inverse_scale = latent.inverse_scale.data() + first;
  for (std::int64_t t = 0; t < unit_tokens; ++t, out += stride, z += panel_channels) {
    for (std::int64_t c = begin; c < end; ++c) out[c] = mean[c] + z[c] * inverse_scale[c];
  }
}

/// One call's work on up to max_decoded_units units.
class UnitSlab {
 public:
  UnitSlab(const DecodeParams& params, std::span<const std::int32_t> units, float* out, ThreadPool& pool,
           LatentScratch& scratch)
      : latent_(cpu_latent(params.latent)),
        params_(params),
        units_(units),
        out_(out),
        pool_(pool),
        wide_(params.layout->blocks().first(latent_.n_wide_blocks(params.layout->blocks()))),
        others_(params.layout->blocks().subspan(wide_.size())),
        n_units_(static_cast<std::int64_t>(units.size())),
        y_(reinterpret_cast<float*>(scratch.components.data())),
        levels_(reinterpret_cast<std::int16_t*>(y_ + n_units_ * static_cast<std::int64_t>(wide_.size()) *
                                                         block_values)),
        threads_(reinterpret_cast<ReconstructionScratch*>(scratch.threads.data())) {
    for (const std::int32_t width : {1, 2, 4, 8}) {
      largest_levels_[width] = latent_.integer_levels_of(width).largest;
    }
  }

  /// Codes become components: ŷ of wide ones, levels of the others.
  void read() {
    constexpr std::int64_t some = 4;  // blocks a task, so that one unit is work for all threads
    const std::int64_t n_wide = size(wide_), n_blocks = n_wide + size(others_);
    const std::int64_t n_parts = div_up(n_blocks, some);
    pool_.parallel_for(n_units_ * n_parts, [&](std::int64_t task, int) {
      const std::int64_t u = task / n_parts, first = task % n_parts * some;
      const std::byte* unit =
          params_.coded + units_[static_cast<std::size_t>(u)] * params_.layout->unit_bytes();
      for (std::int64_t i = first; i < std::min(first + some, n_blocks); ++i) {
        const LatentLayout::Block& block = params_.layout->blocks()[static_cast<std::size_t>(i)];
        const std::byte* packed = unit + block.unit_offset;
        if (i < n_wide) {
          latent_.read_block(block, packed, 1.0f, y_ + (u * n_wide + i) * block_values);
        } else {
          read_levels(packed, block.bits, latent_.integer_levels_of(block.bits),
                      levels_ + ((i - n_wide) * n_units_ + u) * block_values);
        }
      }
    });
  }

  void reconstruct_pieces(std::span<const Piece> pieces, std::int64_t n_rows) {
    pool_.parallel_for(static_cast<std::int64_t>(pieces.size()), [&](std::int64_t task, int thread) {
      const Piece& piece = pieces[static_cast<std::size_t>(task)];
      const std::int64_t part = piece.first_channel / tile_channels,
                         first = piece.first_channel % tile_channels, end = first + piece.count;
      const Reconstruction work{.basis = latent_.basis,
                                .wide = wide_,
                                .others = others_,
                                .largest_levels = largest_levels_,
                                .part = part,
                                .first_panel = first / panel_channels,
                                .n_panels = div_up(end, panel_channels) - first / panel_channels,
                                .n_units = n_units_,
                                .y = y_,
                                .levels = levels_,
                                .scratch = threads_ + thread};
      reconstruct(work);
      for (std::int64_t panel = 0; panel < work.n_panels; ++panel) {
        const std::int64_t channel = (work.first_panel + panel) * panel_channels;
        for (std::int64_t unit = 0; unit < n_units_; ++unit) {
          write_panel(latent_, part * tile_channels + channel, std::max(first - channel, std::int64_t{0}),
                      std::min(end - channel, panel_channels), work.z(panel, unit),
                      out_ + unit * unit_tokens * n_rows + piece.column + channel - first, n_rows);
        }
      }
    });
  }

 private:
  static std::int64_t size(Blocks blocks) { return static_cast<std::int64_t>(blocks.size()); }

  const CpuLatent& latent_;
  const DecodeParams& params_;
  std::span<const std::int32_t> units_;
  float* out_;  // [units, 16, channels asked for]
  ThreadPool& pool_;
  Blocks wide_, others_;
  std::int64_t n_units_;
  float* y_;              // [n_units, wide blocks, 64, 16]
  std::int16_t* levels_;  // [other blocks, n_units, 32, 16, 2]
  ReconstructionScratch* threads_;
  float largest_levels_[9] = {};
};

}  // namespace

void decode_units(const DecodeParams& params, ThreadPool& pool, LatentScratch& scratch) {
  const std::int64_t n_rows = total(params.channels);
  const std::vector<Piece> pieces = cut(params.channels, pool.size());
  const std::size_t n_units = params.units.size();
  const std::size_t n_slabs = div_up(n_units, static_cast<std::size_t>(max_decoded_units));
  const std::size_t most = n_slabs == 0 ? 0 : div_up(n_units, n_slabs);
  scratch.components.reserve(most * params.layout->blocks().size() * block_values * sizeof(float));
  scratch.threads.reserve(static_cast<std::size_t>(pool.size()) * sizeof(ReconstructionScratch));
  for (std::size_t first = 0; first < n_units; first += most) {
    const auto units = params.units.subspan(first, std::min(most, n_units - first));
    float* const out = params.out + static_cast<std::int64_t>(first) * unit_tokens * n_rows;
    UnitSlab slab(params, units, out, pool, scratch);
    slab.read();
    slab.reconstruct_pieces(pieces, n_rows);
  }
}

}  // namespace cga::cpu
