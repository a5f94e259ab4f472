// Parts of the stored basis as f32: 16-bit rows widened, int8 rows times their scale of each 128 channels.
// Per-target include guard, as Highway asks for.
#if defined(CGA_LATENT_BASIS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_LATENT_BASIS_INL_H_
#undef CGA_LATENT_BASIS_INL_H_
#else
#define CGA_LATENT_BASIS_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "base/half.h"
#include "kernels/cpu/latent/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Vectors as long as the target's own: nothing here depends on their length.
using Wide = hn::CappedTag<float, 16>;

inline void expand_halves(const std::uint16_t* from, std::int64_t n, float* to) {
  const Wide f;
  const hn::Rebind<hwy::float16_t, Wide> h;
  const auto step = static_cast<std::int64_t>(hn::Lanes(f));
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    hn::StoreU(hn::PromoteTo(f, hn::LoadU(h, reinterpret_cast<const hwy::float16_t*>(from + i))), f, to + i);
  }
  for (; i < n; ++i) to[i] = f16_to_f32(from[i]);
}

inline void expand_codes(const std::int8_t* from, float scale, std::int64_t n, float* to) {
  const Wide f;
  const hn::Rebind<std::int8_t, Wide> bytes;
  const hn::Rebind<std::int32_t, Wide> words;
  const auto factor = hn::Set(f, scale);
  const auto step = static_cast<std::int64_t>(hn::Lanes(f));
  std::int64_t i = 0;
  for (; i + step <= n; i += step) {
    const auto codes = hn::ConvertTo(f, hn::PromoteTo(words, hn::LoadU(bytes, from + i)));
    hn::StoreU(hn::Mul(factor, codes), f, to + i);
  }
  for (; i < n; ++i) to[i] = scale * static_cast<float>(from[i]);
}

/// One component's row of the basis, channels [first, first + n).
inline void expand_row(const LatentView& view, std::int64_t component, std::int64_t first, std::int64_t n,
                       float* to) {
  if (component < view.w) return expand_halves(view.basis_wide + component * view.n + first, n, to);
  const std::int64_t row = component - view.w;
  const std::int8_t* codes = view.basis + row * view.n;
  const std::uint16_t* scales = view.basis_scale + row * (view.n / basis_scale_channels);
  for (std::int64_t c = first; c < first + n;) {
    const std::int64_t group = c / basis_scale_channels;
    const std::int64_t end = HWY_MIN((group + 1) * basis_scale_channels, first + n);
    expand_codes(codes + c, f16_to_f32(scales[group]), end - c, to + (c - first));
    c = end;
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_LATENT_BASIS_INL_H_
