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

constexpr std::int64_t slab_pages = max_units / page_units;
constexpr std::int64_t thread_floats = expanded_floats + max_units * block_components * unit_tokens;

using Blocks = std::span<const LatentLayout::Block>;

/// What stays the same while a slab is coded. Unit u of it is unit u % 4 of page u / 4.
class Slab {
 public:
  Slab(const EncodeParams& params, std::size_t first_page, std::size_t n_pages, ThreadPool& pool,
       LatentScratch& scratch)
      : latent_(cpu_latent(params.latent)),
        params_(params),
        first_page_(first_page),
        n_units_(static_cast<std::int64_t>(n_pages) * page_units),
        pool_(pool),
        z_(reinterpret_cast<float*>(scratch.channels.data())),
        y_(reinterpret_cast<float*>(scratch.components.data())),
        threads_(reinterpret_cast<float*>(scratch.threads.data())) {}

  void encode() {
    const Blocks blocks = params_.layout->blocks();
    const std::size_t n_wide = latent_.n_wide_blocks(blocks);
    transpose_rows();
    code(blocks.first(n_wide));
    if (n_wide > 0) {
      restore(blocks.first(n_wide));
      subtract_restored(blocks.first(n_wide));
    }
    code(blocks.subspan(n_wide));
  }

 private:
  /// z = scale · (x - mean), tokens last.
  void transpose_rows() {
    const std::int64_t n = latent_.n, n_parts = n / tile_channels;
    const float* x = params_.x + static_cast<std::int64_t>(first_page_) * page_tokens * n;
    const float* mean = latent_.mean.data();
    const float* scale = latent_.scale.data();
    pool_.parallel_for(n_units_ * n_parts, [&](std::int64_t task, int) {
      const std::int64_t unit = task / n_parts, first = task % n_parts * tile_channels;
      const float* from = x + unit * unit_tokens * n;
      float* to = z_ + unit * n * unit_tokens;
      for (std::int64_t c = first; c < first + tile_channels; ++c) {
        for (std::int64_t t = 0; t < unit_tokens; ++t) {
          to[c * unit_tokens + t] = scale[c] * (from[t * n + c] - mean[c]);
        }
      }
    });
  }

  /// Projects and codes blocks of components.
  void code(Blocks blocks) {
    // Fewer units a task where blocks alone would leave threads idle; expanding the basis again costs less.
    const auto n_blocks = static_cast<std::int64_t>(blocks.size());
    const std::int64_t wanted = n_blocks >= 4 * pool_.size() ? 1 : div_up<std::int64_t>(pool_.size(), 2);
    const std::int64_t part = div_up(n_units_, std::min(wanted, n_units_)), n_parts = div_up(n_units_, part);
    pool_.parallel_for(n_blocks * n_parts, [&](std::int64_t task, int thread) {
      const LatentLayout::Block& block = blocks[static_cast<std::size_t>(task / n_parts)];
      const std::int64_t first = task % n_parts * part;
      float* expanded = threads_ + thread * thread_floats;
      const Projection work{.basis = latent_.basis,
                            .block = block.first_component / block_components,
                            .n_units = std::min(part, n_units_ - first),
                            .z = z_ + first * latent_.n * unit_tokens,
                            .y = expanded + expanded_floats,
                            .expanded = expanded};
      project(work);
      for (std::int64_t unit = 0; unit < work.n_units; ++unit) {
        quantise_block(work.y + unit * block_components * unit_tokens,
                       latent_.deviation.data() + block.first_component, block.bits,
                       latent_.thresholds_of(block.bits), coded(first + unit) + block.unit_offset);
      }
    });
  }

  /// y = -ŷ of the wide blocks, from the codes just written.
  void restore(Blocks wide) {
    pool_.parallel_for(n_units_, [&](std::int64_t unit, int) {
      float* y = y_ + unit * static_cast<std::int64_t>(wide.size()) * block_components * unit_tokens;
      for (const LatentLayout::Block& block : wide) {
        latent_.read_block(block, coded(unit) + block.unit_offset, -1.0f, y);
        y += block_components * unit_tokens;
      }
    });
  }

  /// z += Uᵀ y.
  void subtract_restored(Blocks wide) {
    pool_.parallel_for(latent_.n / tile_channels, [&](std::int64_t part, int thread) {
      subtract({.basis = latent_.basis,
                .blocks = wide,
                .part = part,
                .n_units = n_units_,
                .y = y_,
                .z = z_ + part * tile_channels * unit_tokens,
                .z_stride = latent_.n * unit_tokens,
                .expanded = threads_ + thread * thread_floats});
    });
  }

  std::byte* coded(std::int64_t unit) const {
    const std::int64_t page = params_.pages[first_page_ + static_cast<std::size_t>(unit / page_units)];
    return params_.coded + (page * page_units + unit % page_units) * params_.layout->unit_bytes();
  }

  const CpuLatent& latent_;
  const EncodeParams& params_;
  std::size_t first_page_;
  std::int64_t n_units_;
  ThreadPool& pool_;
  float* z_;        // [n_units, n, 16]
  float* y_;        // [n_units, 64 * wide blocks, 16]
  float* threads_;  // [threads, thread_floats]
};

}  // namespace

void encode_pages(const EncodeParams& params, ThreadPool& pool, LatentScratch& scratch) {
  const CpuLatent& latent = cpu_latent(params.latent);
  const std::size_t n_pages = params.pages.size();
  const std::size_t n_units = std::min<std::size_t>(n_pages * page_units, max_units);
  const std::size_t row = unit_tokens * sizeof(float);
  scratch.channels.reserve(n_units * static_cast<std::size_t>(latent.n) * row);
  scratch.components.reserve(n_units * latent.n_wide_blocks(params.layout->blocks()) * block_components *
                             row);
  scratch.threads.reserve(static_cast<std::size_t>(pool.size() * thread_floats) * sizeof(float));
  for (std::size_t first = 0; first < n_pages; first += slab_pages) {
    Slab(params, first, std::min<std::size_t>(slab_pages, n_pages - first), pool, scratch).encode();
  }
}

}  // namespace cga::cpu
