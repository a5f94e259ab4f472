// Ops::encode_pages: the loop over slabs of tokens, passes and threads.
//
// A slab goes through four steps: its rows become z, tiled; the wide components are projected and coded; what
// they reconstruct to is subtracted from z; the rest is projected and coded from what is left. Without the
// subtraction the error of the rounded basis would leak from components hundreds of times larger.
#include <algorithm>

#include "base/checked.h"
#include "kernels/cpu/latent/cpu_latent.h"
#include "kernels/cpu/latent/latent.h"

namespace cga::cpu {
namespace {

constexpr std::int64_t slab_pages = max_tiles / page_units;
constexpr std::int64_t thread_floats = basis_floats + max_tiles * block_components * unit_tokens;

/// What stays the same while a slab is coded. Tile u of it is unit u % 4 of page u / 4.
class Slab {
 public:
  Slab(const EncodeParams& params, std::size_t first_page, std::size_t n_pages, ThreadPool& pool,
       LatentScratch& scratch)
      : latent_(cpu_latent(params.latent)),
        params_(params),
        first_page_(first_page),
        n_tiles_(static_cast<std::int64_t>(n_pages) * page_units),
        pool_(pool),
        z_(reinterpret_cast<float*>(scratch.channels.data())),
        y_(reinterpret_cast<float*>(scratch.components.data())),
        threads_(reinterpret_cast<float*>(scratch.threads.data())) {}

  void encode() {
    tile_rows();
    const auto wide = latent_.wide_blocks();
    code(wide);
    if (!wide.empty()) {
      restore(wide);
      subtract(wide);
    }
    code(latent_.other_blocks());
  }

 private:
  /// z = scale · (x - mean), in tiles.
  void tile_rows() {
    const LatentView& view = latent_.view;
    constexpr std::int64_t part = basis_scale_channels;  // n is a multiple
    const float* x = params_.x + static_cast<std::int64_t>(first_page_) * page_tokens * view.n;
    const std::int64_t n_parts = view.n / part;
    pool_.parallel_for(n_tiles_ * n_parts, [&](std::int64_t task, int) {
      const std::int64_t tile = task / n_parts, first = task % n_parts * part;
      const float* from = x + tile * unit_tokens * view.n;
      float* to = z_ + tile * view.n * unit_tokens;
      for (std::int64_t c = first; c < first + part; ++c) {
        for (std::int64_t t = 0; t < unit_tokens; ++t) {
          to[c * unit_tokens + t] = view.scale[c] * (from[t * view.n + c] - view.mean[c]);
        }
      }
    });
  }

  /// Projects and codes blocks of components.
  void code(std::span<const LatentLayout::Block> blocks) {
    // Fewer tiles a task where blocks alone would leave threads idle; expanding the basis again costs less.
    const auto n_blocks = static_cast<std::int64_t>(blocks.size());
    const std::int64_t wanted = n_blocks >= 4 * pool_.size() ? 1 : div_up<std::int64_t>(pool_.size(), 2);
    const std::int64_t n_parts = std::min(wanted, n_tiles_), part = div_up(n_tiles_, n_parts);
    pool_.parallel_for(n_blocks * n_parts, [&](std::int64_t task, int thread) {
      const LatentLayout::Block& block = blocks[static_cast<std::size_t>(task / n_parts)];
      const std::int64_t first = task % n_parts * part;
      float* basis = threads_ + thread * thread_floats;
      const Projection work{.view = &latent_.view,
                            .first_component = block.first_component,
                            .n_tiles = std::min(part, n_tiles_ - first),
                            .z = z_ + first * latent_.view.n * unit_tokens,
                            .y = basis + basis_floats,
                            .basis = basis};
      if (work.n_tiles <= 0) return;
      project(work);
      for (std::int64_t tile = 0; tile < work.n_tiles; ++tile) {
        quantise_block(work.y + tile * block_components * unit_tokens,
                       latent_.deviation.data() + block.first_component, block.bits,
                       latent_.thresholds_of(block.bits), unit(first + tile) + block.unit_offset);
      }
    });
  }

  /// y = -ŷ of the wide blocks, from the codes just written.
  void restore(std::span<const LatentLayout::Block> wide) {
    pool_.parallel_for(n_tiles_, [&](std::int64_t tile, int) {
      float* y = y_ + tile * static_cast<std::int64_t>(wide.size()) * block_components * unit_tokens;
      for (const LatentLayout::Block& block : wide) {
        latent_.read_block(block, unit(tile) + block.unit_offset, -1.0f, y);
        y += block_components * unit_tokens;
      }
    });
  }

  /// z += Uᵀ y.
  void subtract(std::span<const LatentLayout::Block> wide) {
    const std::int64_t n = latent_.view.n;
    pool_.parallel_for(n / rebuild_channels, [&](std::int64_t part, int thread) {
      reconstruct({.view = &latent_.view,
                   .blocks = wide,
                   .first_channel = part * rebuild_channels,
                   .n_channels = rebuild_channels,
                   .n_tiles = n_tiles_,
                   .y = y_,
                   .z = z_ + part * rebuild_channels * unit_tokens,
                   .z_stride = n * unit_tokens,
                   .basis = threads_ + thread * thread_floats});
    });
  }

  std::byte* unit(std::int64_t tile) const {
    const std::int64_t page = params_.pages[first_page_ + static_cast<std::size_t>(tile / page_units)];
    return params_.coded + (page * page_units + tile % page_units) * latent_.layout.unit_bytes();
  }

  const CpuLatent& latent_;
  const EncodeParams& params_;
  std::size_t first_page_;
  std::int64_t n_tiles_;
  ThreadPool& pool_;
  float* z_;        // [n_tiles, n, 16]
  float* y_;        // [n_tiles, 64 * wide blocks, 16]
  float* threads_;  // [threads, thread_floats]
};

}  // namespace

void encode_pages(const EncodeParams& params, ThreadPool& pool, LatentScratch& scratch) {
  const CpuLatent& latent = cpu_latent(params.latent);
  const std::size_t n_pages = params.pages.size();
  const std::size_t n_tiles = std::min<std::size_t>(n_pages * page_units, max_tiles);
  const std::size_t row = unit_tokens * sizeof(float);
  scratch.channels.reserve(n_tiles * static_cast<std::size_t>(latent.view.n) * row);
  scratch.components.reserve(n_tiles * latent.wide_blocks().size() * block_components * row);
  scratch.threads.reserve(static_cast<std::size_t>(pool.size() * thread_floats) * sizeof(float));
  for (std::size_t first = 0; first < n_pages; first += slab_pages) {
    Slab(params, first, std::min<std::size_t>(slab_pages, n_pages - first), pool, scratch).encode();
  }
}

}  // namespace cga::cpu
