// Ops::prepare_latent, and reconstructing components from their codes.
#include <cmath>

#include "kernels/cpu/latent/cpu_latent.h"
#include "kernels/cpu/latent/latent.h"

namespace cga::cpu {
namespace {

Thresholds thresholds_between(const float* levels, int n_levels) {
  Thresholds thresholds;
  thresholds.count = n_levels - 1;
  for (int i = 0; i + 1 < n_levels; ++i) thresholds.at[i] = 0.5f * (levels[i] + levels[i + 1]);
  return thresholds;
}

/// y: [64, 16]; levels: [2^bits], for unit variance
template <int bits>
void read_components(const std::byte* packed, const float* levels, const float* deviation, float sign,
                     float* y) {
  for (std::int64_t i = 0; i < block_components; ++i, packed += 2 * bits, y += unit_tokens) {
    std::uint8_t codes[unit_tokens];
    unpack_codes<bits>(packed, codes);
    const float factor = sign * deviation[i];
    for (int t = 0; t < unit_tokens; ++t) y[t] = factor * levels[codes[t]];
  }
}

}  // namespace

CpuLatent::CpuLatent(const LatentView& from, std::span<const std::uint8_t> bits)
    : deviation(static_cast<std::size_t>(from.m)),
      inverse_scale(static_cast<std::size_t>(from.n)),
      thresholds{thresholds_between(from.codebook1, 2), thresholds_between(from.codebook2, 4),
                 thresholds_between(from.codebook4, 16)},
      uniform_levels_(256) {
  view = from;
  layout = LatentLayout(bits);
  for (std::size_t i = 0; i < deviation.size(); ++i) deviation[i] = std::sqrt(view.variance[i]);
  for (std::size_t c = 0; c < inverse_scale.size(); ++c) inverse_scale[c] = 1.0f / view.scale[c];
  for (std::int32_t code = 0; code < 256; ++code) {
    uniform_levels_[static_cast<std::size_t>(code)] = latent_level(view, 8, code);
  }
  for (const auto& block : layout.blocks()) n_wide_ += block.first_component < view.w;
  bytes = static_cast<std::int64_t>((deviation.size() + inverse_scale.size() + uniform_levels_.size()) *
                                        sizeof(float) +
                                    layout.blocks().size_bytes());
}

void CpuLatent::read_block(const LatentLayout::Block& block, const std::byte* packed, float sign,
                           float* y) const {
  const float* deviations = deviation.data() + block.first_component;
  switch (block.bits) {
    case 1:
      return read_components<1>(packed, view.codebook1, deviations, sign, y);
    case 2:
      return read_components<2>(packed, view.codebook2, deviations, sign, y);
    case 4:
      return read_components<4>(packed, view.codebook4, deviations, sign, y);
    default:
      return read_components<8>(packed, uniform_levels_.data(), deviations, sign, y);
  }
}

std::unique_ptr<PreparedLatent> prepare_latent(const LatentView& view, std::span<const std::uint8_t> bits) {
  return std::make_unique<CpuLatent>(view, bits);
}

}  // namespace cga::cpu
