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

IntegerLevels integers_of(const std::vector<float>& levels) {
  IntegerLevels integers;
  for (const float level : levels) integers.largest = std::max(integers.largest, std::abs(level));
  for (std::size_t i = 0; i < levels.size(); ++i) integers.at[i] = share_of(levels[i], integers.largest);
  return integers;
}

BasisTiles tiles_of(const LatentView& view) {
  return {.data = nullptr,
          .steps = nullptr,
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
  steps_.resize(static_cast<std::size_t>((n_blocks - basis.n_wide) * basis.n_parts));
  basis.steps = steps_.data();
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
  const std::int64_t first_row = block * block_components - view.w;
  for (std::int64_t part = 0; part < basis.n_parts; ++part) {
    std::byte* tile = to + basis.offset(block, part);
    float factors[block_components], largest = 0;
    for (std::int64_t i = 0; i < block_components; ++i) {
      const std::uint16_t half = view.basis_scale[(first_row + i) * basis.n_parts + part];
      std::memcpy(tile + i * 2, &half, 2);
      factors[i] = f16_to_f32(half) * deviation[static_cast<std::size_t>(block * block_components + i)];
      largest = std::max(largest, std::abs(factors[i]));
      const std::int8_t* from = view.basis + (first_row + i) * view.n + part * tile_channels;
      std::byte* codes = tile + scale_bytes + factor_bytes + i / 2 * panel_channels * 2 + i % 2;
      for (std::int64_t c = 0; c < tile_channels; ++c) {
        codes[c / panel_channels * panel_bytes + c % panel_channels * 2] = static_cast<std::byte>(from[c]);
      }
    }
    for (std::int64_t i = 0; i < block_components; ++i) {
      const std::int16_t factor = share_of(factors[i], largest);
      std::memcpy(tile + scale_bytes + i * 2, &factor, 2);
    }
    // A level of 32767 times a factor of 32767, as MulFixedPoint15 rounds it, is 32767² / 32768.
    steps_[static_cast<std::size_t>((block - basis.n_wide) * basis.n_parts + part)] =
        largest * (32768.0f / (32767.0f * 32767.0f));
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
  const std::int64_t steps = (view.m - view.w) / block_components * (view.n / tile_channels);
  return tiles + (3 * view.n + view.m + steps) * static_cast<std::int64_t>(sizeof(float));
}

std::unique_ptr<PreparedLatent> prepare_latent(const LatentView& view, ThreadPool& pool) {
  return std::make_unique<CpuLatent>(view, pool);
}

}  // namespace cga::cpu
