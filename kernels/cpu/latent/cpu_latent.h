// A prepared transform: the sidecar's tensors where they are mapped, and the little that is derived from
// them. The basis is not rearranged: both products read it in rows of components as the file has them.
#pragma once

#include <span>
#include <vector>

#include "kernels/cpu/latent/kernels.h"
#include "kernels/ops.h"

namespace cga::cpu {

class CpuLatent final : public PreparedLatent {
 public:
  CpuLatent(const LatentView& from, std::span<const std::uint8_t> bits);

  std::vector<float> deviation;      // [m], f32
  std::vector<float> inverse_scale;  // [n], f32
  Thresholds thresholds[3];          // of 1, 2 and 4 bits

  const Thresholds& thresholds_of(std::int32_t width) const { return thresholds[width == 4 ? 2 : width - 1]; }

  /// Blocks of components whose basis is stored in 16 bits: they come first, and are coded first.
  std::span<const LatentLayout::Block> wide_blocks() const { return layout.blocks().first(n_wide_); }
  std::span<const LatentLayout::Block> other_blocks() const { return layout.blocks().subspan(n_wide_); }

  /// Reconstructs a block of one unit, times `sign`.  packed: its bytes; y: [64, 16], f32
  void read_block(const LatentLayout::Block& block, const std::byte* packed, float sign, float* y) const;

 private:
  std::size_t n_wide_ = 0;
  std::vector<float> uniform_levels_;  // [256]
};

inline const CpuLatent& cpu_latent(const PreparedLatent* prepared) {
  return static_cast<const CpuLatent&>(*prepared);
}

}  // namespace cga::cpu
