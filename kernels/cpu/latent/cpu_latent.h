// A prepared transform: the basis in tiles (tiles.h), copies of the vectors, and the little derived from
// them.
#pragma once

#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/latent/kernels.h"
#include "kernels/cpu/latent/tiles.h"
#include "kernels/cpu/matmul/aligned_memory.h"
#include "kernels/ops.h"

namespace cga::cpu {

class CpuLatent final : public PreparedLatent {
 public:
  CpuLatent(const LatentView& view, ThreadPool& pool);

  BasisTiles basis;
  std::vector<float> mean, scale, inverse_scale;  // [n], f32
  std::vector<float> deviation;                   // [m], f32

  const Thresholds& thresholds_of(std::int32_t width) const {
    return thresholds_[width == 4 ? 2 : width - 1];
  }

  const IntegerLevels& integer_levels_of(std::int32_t width) const {
    return integer_levels_[width == 8 ? 3 : width == 4 ? 2 : width - 1];
  }

  /// Blocks of components whose basis is stored in 16 bits: they come first, and are coded first.
  std::size_t n_wide_blocks(std::span<const LatentLayout::Block> blocks) const {
    std::size_t count = 0;
    while (count < blocks.size() && basis.is_wide(blocks[count].first_component / block_components)) ++count;
    return count;
  }

  /// Reconstructs a block of one unit, times `sign`.  packed: its bytes; y: [64, 16], f32
  void read_block(const LatentLayout::Block& block, const std::byte* packed, float sign, float* y) const;

 private:
  void copy_wide(const LatentView& view, std::int64_t block, std::byte* to) const;
  void copy_codes(const LatentView& view, std::int64_t block, std::byte* to);

  AlignedMemory memory_;
  std::vector<float> steps_;             // BasisTiles::steps
  std::vector<std::uint8_t> segmented_;  // BasisTiles::segmented
  std::vector<float> levels_[4];         // of 1, 2, 4 and 8 bits
  IntegerLevels integer_levels_[4];
  Thresholds thresholds_[3];  // of 1, 2 and 4 bits
};

inline const CpuLatent& cpu_latent(const PreparedLatent* prepared) {
  return static_cast<const CpuLatent&>(*prepared);
}

}  // namespace cga::cpu
