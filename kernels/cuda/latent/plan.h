// How work on the latent codec is cut: pure functions, header only so that they can be tested where there is
// no CUDA. Nothing here changes a result: components are always divided among the warps of a CTA alike.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "base/checked.h"
#include "base/host_device.h"
#include "kernels/ops.h"

namespace cga::cuda {

inline constexpr std::int32_t panel_channels = 32;   // of which a lane has 16 bytes in a step
inline constexpr std::int32_t step_components = 16;  // multiplied at once: K of mma.m16n8k16
inline constexpr std::int32_t block_steps = 4;       // of a block of 64 components
inline constexpr std::int32_t slab_pages = 4;        // coded at once: what bounds the scratch
inline constexpr std::int32_t slab_rows = slab_pages * page_tokens;

/// LatentLayout::Block as kernels read it.
struct CodedBlock {
  std::int32_t component, bits, offset;
};

inline std::vector<CodedBlock> coded_blocks(const LatentLayout& layout) {
  std::vector<CodedBlock> blocks;
  for (const LatentLayout::Block& block : layout.blocks()) {
    blocks.push_back({static_cast<std::int32_t>(block.first_component), block.bits,
                      static_cast<std::int32_t>(block.unit_offset)});
  }
  return blocks;
}

/// Channels that a CTA reconstructs: as many from `first` on as it is wide, of which [begin, end) are wanted.
/// They go to columns from `column` on of a row.
struct Piece {
  std::int32_t first, begin, end, column;

  bool operator==(const Piece&) const = default;
};

/// @param width  32 or 64 channels: a piece begins at a multiple of it, and its basis has one scale
inline std::vector<Piece> cut_channels(std::span<const ChannelRange> ranges, std::int32_t width) {
  std::vector<Piece> pieces;
  std::int32_t column = 0;
  for (const ChannelRange& range : ranges) {
    const auto last = static_cast<std::int32_t>(range.first + range.count);
    for (auto begin = static_cast<std::int32_t>(range.first); begin < last;) {
      const std::int32_t first = begin / width * width, end = std::min(first + width, last);
      pieces.push_back({first, begin, end, column});
      column += end - begin;
      begin = end;
    }
  }
  return pieces;
}

/// What a CTA decodes at once.
struct DecodeShape {
  std::int32_t panels = 1, units = 1;

  constexpr std::int32_t channels() const { return panels * panel_channels; }
  bool operator==(const DecodeShape&) const = default;
};

/// The largest of three shapes that leaves no multiprocessor idle: of a larger one more of the basis and of
/// the codes is read once for several products.
constexpr DecodeShape decode_shape(std::int64_t n_channels, std::int64_t n_units,
                                   std::int32_t multiprocessors) {
  const std::int64_t pieces = div_up<std::int64_t>(n_channels, 2 * panel_channels);
  if (pieces * div_up<std::int64_t>(n_units, 2) >= 2 * multiprocessors) return {2, 2};
  if (pieces * n_units >= multiprocessors) return {2, 1};
  return {1, 1};
}

/// Whether a CTA that codes has all tokens of a page: half of them, where there are multiprocessors for both
/// halves, take little more than half as long.
constexpr bool whole_pages(std::int32_t n_blocks, std::int32_t n_pages, std::int32_t multiprocessors) {
  return 2 * n_blocks * n_pages > multiprocessors;
}

/// Bytes that coding takes beside its arguments: a slab's rows in two f16 a channel, and a number each.
constexpr std::int64_t encode_scratch_bytes(std::int64_t n) {
  return slab_rows * (n * 4 + 4);
}

}  // namespace cga::cuda
