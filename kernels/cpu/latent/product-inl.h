// The inner product in f32: R rows of 16 columns, all sums in registers.
// Per-target include guard, as Highway asks for.
#if defined(CGA_LATENT_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_LATENT_PRODUCT_INL_H_
#undef CGA_LATENT_PRODUCT_INL_H_
#else
#define CGA_LATENT_PRODUCT_INL_H_
#endif

#include <hwy/highway.h>

#include <cstdint>

#include "kernels/cpu/latent/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::CappedTag<float, unit_tokens>;
using Floats = hn::Vec<F>;

constexpr int lanes = static_cast<int>(hn::MaxLanes(F()));
constexpr int vectors = unit_tokens / lanes;  // of a row of tokens
/// Rows whose sums fit the registers beside a row of the other factor: 12 sums hide the latency of a fused
/// multiply-add on two pipes.
constexpr int max_rows = lanes >= 16 ? 12 : lanes == 8 ? 6 : 3;

/// Where a factor's elements are: row r at depth k is data[r * row_stride + k * depth_stride].
struct Factor {
  const float* data;
  std::int64_t row_stride, depth_stride;
};

/// c[r] += Σ_k a[r, k] · b[k], k in order.  b: [depth, 16]; c: [R, 16]
template <int R>
HWY_INLINE void multiply_rows(const Factor& a, const float* b, std::int64_t depth, float* c) {
  const F f;
  Floats sum[R][vectors];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < vectors; ++v) sum[r][v] = hn::Load(f, c + r * unit_tokens + v * lanes);
  }
  const float* element = a.data;
  for (std::int64_t k = 0; k < depth; ++k, element += a.depth_stride, b += unit_tokens) {
    Floats row[vectors];
    for (int v = 0; v < vectors; ++v) row[v] = hn::Load(f, b + v * lanes);
    for (int r = 0; r < R; ++r) {
      const Floats factor = hn::Set(f, element[r * a.row_stride]);
      for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(factor, row[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < vectors; ++v) hn::Store(sum[r][v], f, c + r * unit_tokens + v * lanes);
  }
}

/// Calls multiply_rows<n>, n in [1, R].
template <int R>
HWY_INLINE void multiply_up_to(std::int64_t n, const Factor& a, const float* b, std::int64_t depth,
                               float* c) {
  if (n == R) {
    multiply_rows<R>(a, b, depth, c);
  } else if constexpr (R > 1) {
    multiply_up_to<R - 1>(n, a, b, depth, c);
  }
}

/// Any number of rows, in groups as even as can be.  c: [n_rows, 16]
HWY_NOINLINE inline void multiply(const Factor& a, std::int64_t n_rows, const float* b, std::int64_t depth,
                                  float* c) {
  const std::int64_t n_groups = (n_rows + max_rows - 1) / max_rows;
  for (std::int64_t group = 0; group < n_groups; ++group) {
    const std::int64_t begin = n_rows * group / n_groups, end = n_rows * (group + 1) / n_groups;
    multiply_up_to<max_rows>(end - begin, {a.data + begin * a.row_stride, a.row_stride, a.depth_stride}, b,
                             depth, c + begin * unit_tokens);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_LATENT_PRODUCT_INL_H_
