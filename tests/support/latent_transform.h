// Made-up transforms of the latent codec for tests of any backend: shapes chosen to be nasty, tokens drawn
// from them, and how two backends' codes and reconstructions differ.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/half.h"
#include "tensor/latent_layout.h"
#include "tensor/latent_view.h"

namespace cga::test {

struct LatentShape {
  std::int64_t n, m, w;
};

/// A random transform whose components fall off as real ones do, and tokens drawn from it.
class Transform {
 public:
  explicit Transform(LatentShape shape, double span = 6.0, std::uint32_t seed = 1) : random_(seed) {
    const auto n = static_cast<std::size_t>(shape.n), m = static_cast<std::size_t>(shape.m),
               w = static_cast<std::size_t>(shape.w);
    for (std::size_t c = 0; c < n; ++c) {
      mean_.push_back(draw(c % 7 == 0 ? 30.0f : 1.0f));
      scale_.push_back(std::exp(draw(1.0f)));
    }
    for (std::size_t i = 0; i < m; ++i) {
      const double fall = static_cast<double>(i) / static_cast<double>(m);
      variance_.push_back(static_cast<float>(1e4 * std::exp(-span * fall)));
    }
    const float entry = 1.0f / std::sqrt(static_cast<float>(n));
    for (std::size_t i = 0; i < w * n; ++i) wide_.push_back(f32_to_f16(draw(entry)));
    for (std::size_t i = 0; i < (m - w) * n; ++i) {
      codes_.push_back(static_cast<std::int8_t>(std::clamp(std::round(draw(40.0f)), -127.0f, 127.0f)));
    }
    for (std::size_t i = 0; i < (m - w) * n / 128; ++i) {
      scales_.push_back(f32_to_f16(entry / 40.0f * (1.0f + 0.1f * draw(1.0f))));
    }
    view_ = {shape.n,      shape.m,       shape.w,        mean_.data(), scale_.data(), variance_.data(),
             wide_.data(), codes_.data(), scales_.data(), codebook1_,   codebook2_,    codebook4_};
  }

  const LatentView& view() const { return view_; }

  /// Rows as a model gives them: a combination of all components, and a few far off.
  std::vector<float> tokens(std::size_t n_tokens) {
    const auto n = static_cast<std::size_t>(view_.n), m = static_cast<std::size_t>(view_.m);
    std::vector<float> x(n_tokens * n);
    std::vector<float> z(n);
    for (std::size_t t = 0; t < n_tokens; ++t) {
      std::fill(z.begin(), z.end(), 0.0f);
      for (std::size_t i = 0; i < m; ++i) {
        const float y = draw(std::sqrt(variance_[i])) * (t % 17 == 3 ? 8.0f : 1.0f);
        for (std::size_t c = 0; c < n; ++c) z[c] += y * basis(i, c);
      }
      for (std::size_t c = 0; c < n; ++c) x[t * n + c] = mean_[c] + z[c] / scale_[c];
    }
    return x;
  }

 private:
  float draw(float deviation) { return std::normal_distribution<float>(0.0f, deviation)(random_); }
  float basis(std::size_t i, std::size_t c) const {
    const auto n = static_cast<std::size_t>(view_.n), w = static_cast<std::size_t>(view_.w);
    if (i < w) return f16_to_f32(wide_[i * n + c]);
    return f16_to_f32(scales_[((i - w) * n + c) / 128]) * static_cast<float>(codes_[(i - w) * n + c]);
  }

  std::mt19937 random_;
  std::vector<float> mean_, scale_, variance_;
  std::vector<std::uint16_t> wide_, scales_;
  std::vector<std::int8_t> codes_;
  const float codebook1_[2] = {-0.8f, 0.8f}, codebook2_[4] = {-1.5f, -0.45f, 0.46f, 1.5f},
              codebook4_[16] = {-2.7f, -2.07f, -1.62f, -1.26f, -0.94f, -0.66f, -0.39f, -0.13f,
                                0.13f, 0.39f,  0.66f,  0.94f,  1.26f,  1.62f,  2.07f,  2.7f};
  LatentView view_;
};

/// Widths that use every kind of block: 8 (where allowed), 4, 2, 1 and 0, over and over.
inline std::vector<std::uint8_t> mixed_bits(const LatentView& view) {
  constexpr std::uint8_t cycle[] = {8, 4, 2, 1, 0};
  std::vector<std::uint8_t> bits;
  for (std::int64_t i = 0; i < view.m / 64; ++i) {
    const std::uint8_t width = cycle[i % 5];
    bits.push_back(width == 8 && 64 * i >= view.w ? 4 : width);
  }
  return bits;
}

struct CodeDifference {
  std::size_t n_codes = 0, n_different = 0;
  int largest = 0;
};

inline CodeDifference difference(const LatentLayout& layout, const std::vector<std::byte>& a,
                                 const std::vector<std::byte>& b) {
  CodeDifference result;
  for (std::int64_t unit = 0; unit < static_cast<std::int64_t>(a.size()); unit += layout.unit_bytes()) {
    for (const auto& block : layout.blocks()) {
      for (std::int64_t i = 0; i < block_components; ++i) {
        const std::int64_t at = unit + block.unit_offset + i * block.component_bytes();
        std::uint8_t of_a[unit_tokens], of_b[unit_tokens];
        unpack_codes(a.data() + at, block.bits, of_a);
        unpack_codes(b.data() + at, block.bits, of_b);
        for (int t = 0; t < unit_tokens; ++t) {
          const int apart = std::abs(of_a[t] - of_b[t]);
          result.largest = std::max(result.largest, apart);
          result.n_different += apart != 0;
          ++result.n_codes;
        }
      }
    }
  }
  return result;
}

/// Rows without their channels' means, which would hide errors.
inline std::vector<float> centred(std::vector<float> rows, const LatentView& view) {
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] -= view.mean[i % static_cast<std::size_t>(view.n)];
  return rows;
}

inline constexpr LatentShape latent_shapes[] = {{128, 64, 0},   {128, 128, 128}, {128, 128, 0},
                                                {256, 192, 64}, {384, 384, 128}, {512, 320, 320},
                                                {640, 384, 64}, {896, 576, 128}};

}  // namespace cga::test
