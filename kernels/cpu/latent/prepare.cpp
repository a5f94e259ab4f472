// Ops::prepare_latent, and reconstructing components from their codes.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"
#include "kernels/cpu/latent/cpu_latent.h"
#include "kernels/cpu/latent/latent.h"

namespace cga::cpu {
namespace {

Thresholds thresholds_between(const std::vector<float>& levels) {
  Thresholds thresholds;
  thresholds.count = static_cast<int>(levels.size()) - 1;
  for (std::size_t i = 0; i + 1 < levels.size(); ++i) thresholds.at[i] = 0.5f * (levels[i] + levels[i + 1]);
  return thresholds;
}

std::int16_t share_of(float value, float largest) {
  return largest > 0 ? static_cast<std::int16_t>(std::lround(32767.0f * (value / largest))) : std::int16_t{0};
}

float largest_of(const float* values, std::int64_t n) {
  float largest = 0;
  for (std::int64_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(values[i]));
  return largest;
}

IntegerLevels integers_of(const std::vector<float>& levels) {
  IntegerLevels integers;
  integers.largest = largest_of(levels.data(), static_cast<std::int64_t>(levels.size()));
  for (std::size_t i = 0; i < levels.size(); ++i) integers.at[i] = share_of(levels[i], integers.largest);
  return integers;
}

/// Scales times deviations.  [n / 128, 64]
std::vector<float> factors_of(const LatentView& view, std::int64_t block) {
  const std::int64_t n_parts = view.n / tile_channels;
  std::vector<float> factors(static_cast<std::size_t>(n_parts * block_components));
  for (std::int64_t part = 0; part < n_parts; ++part) {
    for (std::int64_t i = 0; i < block_components; ++i) {
      const std::int64_t component = block * block_components + i;
      factors[static_cast<std::size_t>(part * block_components + i)] =
          f16_to_f32(view.basis_scale[(component - view.w) * n_parts + part]) *
          std::sqrt(view.variance[component]);
    }
  }
  return factors;
}

/// Whether the block's energy is that of a few components: rounding all as the largest has to be would then
/// show. So it is in the first blocks of a transform without wide components; elsewhere a block counts for
/// more than twenty, on average over its tiles.
bool differ_a_lot(const std::vector<float>& factors, std::int64_t n_parts) {
  float sum = 0;
  for (std::int64_t part = 0; part < n_parts; ++part) {
    const float* of_part = factors.data() + part * block_components;
    const float largest = largest_of(of_part, block_components);
    for (std::int64_t i = 0; i < block_components && largest > 0; ++i) {
      sum += of_part[i] / largest * (of_part[i] / largest);
    }
  }
  return sum < 12.0f * static_cast<float>(n_parts);
}

BasisTiles tiles_of(const LatentView& view) {
  return {.data = nullptr,
          .steps = nullptr,
          .segmented = nullptr,
          .n_wide = view.w / block_components,
          .n_parts = view.n / tile_channels};
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

CpuLatent::CpuLatent(const LatentView& view, ThreadPool& pool)
    : mean(view.mean, view.mean + view.n),
      scale(view.scale, view.scale + view.n),
      inverse_scale(scale.size()),
      deviation(static_cast<std::size_t>(view.m)) {
  n = view.n;
  m = view.m;
  for (std::size_t c = 0; c < scale.size(); ++c) inverse_scale[c] = 1.0f / scale[c];
  for (std::size_t i = 0; i < deviation.size(); ++i) deviation[i] = std::sqrt(view.variance[i]);
  for (std::size_t k = 0; k < 4; ++k) {
    const std::int32_t width = 1 << k;
    for (std::int32_t code = 0; code < 1 << width; ++code) {
      levels_[k].push_back(latent_level(view, width, code));
    }
    integer_levels_[k] = integers_of(levels_[k]);
    if (k < 3) thresholds_[k] = thresholds_between(levels_[k]);
  }
  basis = tiles_of(view);
  const std::int64_t n_blocks = view.m / block_components;
  memory_ = AlignedMemory(static_cast<std::size_t>(basis.offset(n_blocks, 0) + tile_slack));
  basis.data = memory_.data();
  steps_.resize(static_cast<std::size_t>((n_blocks - basis.n_wide) * basis.n_parts * block_segments));
  segmented_.resize(static_cast<std::size_t>(n_blocks - basis.n_wide));
  basis.steps = steps_.data();
  basis.segmented = segmented_.data();
  pool.parallel_for(n_blocks, [&](std::int64_t block, int) {
    basis.is_wide(block) ? copy_wide(view, block, memory_.data()) : copy_codes(view, block, memory_.data());
  });
}

void CpuLatent::copy_wide(const LatentView& view, std::int64_t block, std::byte* to) const {
  for (std::int64_t part = 0; part < basis.n_parts; ++part) {
    std::byte* tile = to + basis.offset(block, part);
    for (std::int64_t i = 0; i < block_components; ++i) {
      const std::int64_t component = block * block_components + i;
      std::memcpy(tile + i * tile_channels * 2, view.basis_wide + component * view.n + part * tile_channels,
                  tile_channels * 2);
    }
  }
}

void CpuLatent::copy_codes(const LatentView& view, std::int64_t block, std::byte* to) {
  const std::int64_t first_row = block * block_components - view.w, n_parts = basis.n_parts;
  const std::vector<float> factors = factors_of(view, block);
  const bool segmented = differ_a_lot(factors, n_parts);
  segmented_[static_cast<std::size_t>(block - basis.n_wide)] = segmented ? 1 : 0;
  const std::int64_t segment = segmented ? 2 * segment_pairs : block_components;
  for (std::int64_t part = 0; part < n_parts; ++part) {
    std::byte* tile = to + basis.offset(block, part);
    float* steps = steps_.data() + ((block - basis.n_wide) * n_parts + part) * block_segments;
    for (std::int64_t i = 0; i < block_components; ++i) {
      std::memcpy(tile + i * 2, view.basis_scale + (first_row + i) * n_parts + part, 2);
      const std::int8_t* from = view.basis + (first_row + i) * view.n + part * tile_channels;
      std::byte* codes = tile + scale_bytes + factor_bytes + i / 2 * panel_channels * 2 + i % 2;
      for (std::int64_t c = 0; c < tile_channels; ++c) {
        codes[c / panel_channels * panel_bytes + c % panel_channels * 2] = static_cast<std::byte>(from[c]);
      }
    }
    for (std::int64_t first = 0; first < block_components; first += segment) {
      const float* of_segment = factors.data() + part * block_components + first;
      const float largest = largest_of(of_segment, segment);
      for (std::int64_t i = 0; i < segment; ++i) {
        const std::int16_t factor = share_of(of_segment[i], largest);
        std::memcpy(tile + scale_bytes + (first + i) * 2, &factor, 2);
      }
      // A level of 32767 times a factor of 32767, as MulFixedPoint15 rounds it, is 32767² / 32768.
      steps[first / segment] = largest * (32768.0f / (32767.0f * 32767.0f));
    }
  }
}

void CpuLatent::read_block(const LatentLayout::Block& block, const std::byte* packed, float sign,
                           float* y) const {
  const float* deviations = deviation.data() + block.first_component;
  switch (block.bits) {
    case 1:
      return read_components<1>(packed, levels_[0].data(), deviations, sign, y);
    case 2:
      return read_components<2>(packed, levels_[1].data(), deviations, sign, y);
    case 4:
      return read_components<4>(packed, levels_[2].data(), deviations, sign, y);
    default:
      return read_components<8>(packed, levels_[3].data(), deviations, sign, y);
  }
}

std::int64_t prepared_latent_bytes(const LatentView& view) {
  const std::int64_t tiles = tiles_of(view).offset(view.m / block_components, 0) + tile_slack;
  const std::int64_t steps =
      (view.m - view.w) / block_components * (view.n / tile_channels * block_segments + 1);
  return tiles + (3 * view.n + view.m + steps) * static_cast<std::int64_t>(sizeof(float));
}

std::unique_ptr<PreparedLatent> prepare_latent(const LatentView& view, ThreadPool& pool) {
  return std::make_unique<CpuLatent>(view, pool);
}

}  // namespace cga::cpu
