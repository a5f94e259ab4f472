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

  /// Reconstructs a block of one unit, times `sign`.  packed: its bytes; y: [64, 16], f32
  void read_block(const LatentLayout::Block& block, const std::byte* packed, float sign, float* y) const;

 private:
  void copy_block(const LatentView& view, std::int64_t block, std::byte* to) const;

  AlignedMemory memory_;
  std::vector<float> levels_[4];  // of 1, 2, 4 and 8 bits
  Thresholds thresholds_[3];      // of 1, 2 and 4 bits
};

inline const CpuLatent& cpu_latent(const PreparedLatent* prepared) {
  return static_cast<const CpuLatent&>(*prepared);
}

}  // namespace cga::cpu
