// Rows of floats, as they lie in the file, times f32 activations, summed in f32: 2 to 4 rows by up to 4
// tokens at once, so that a loaded vector is used more than once and several sums run independently.
// clang-format off
#if defined(CGA_FLOAT_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_FLOAT_ROWS_INL_H
#undef CGA_FLOAT_ROWS_INL_H
#else
#define CGA_FLOAT_ROWS_INL_H
#endif
// clang-format on

#include <algorithm>
#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/matmul/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::ScalableTag<float>;
using FloatVector = hn::Vec<FloatTag>;

HWY_INLINE FloatVector load_floats(const float* at) {
  return hn::LoadU(FloatTag(), at);
}

template <class Half>
HWY_INLINE FloatVector load_floats(const Half* at) {
  return hn::PromoteTo(FloatTag(), hn::LoadU(hn::Rebind<Half, FloatTag>(), at));
}

/// The n elements at `at`, followed by zeros; n is less than a vector's lanes.
template <class Element>
HWY_INLINE FloatVector load_tail(const Element* at, std::int64_t n) {
  Element padded[hn::MaxLanes(FloatTag())];
  std::memset(static_cast<void*>(padded), 0, sizeof(padded));
  std::memcpy(static_cast<void*>(padded), at, static_cast<std::size_t>(n) * sizeof(Element));
  return load_floats(padded);
}

/// R rows times T tokens. The order of a sum's terms depends on nothing but the number of columns.
template <int R, int T, class Element>
void multiply_floats(const RowsProduct& p, std::int64_t row, std::int64_t token) {
  const auto* w = reinterpret_cast<const Element*>(p.weights) + row * p.cols;
  const float* x = p.x + token * p.cols;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(FloatTag()));
  FloatVector sums[R][T];
  for (auto& row_sums : sums) {
    for (FloatVector& sum : row_sums) sum = hn::Zero(FloatTag());
  }
  const auto add_column = [&](auto load_w, auto load_x) HWY_ATTR {
    FloatVector wv[R];
    for (int r = 0; r < R; ++r) wv[r] = load_w(w + r * p.cols);
    for (int t = 0; t < T; ++t) {
      const FloatVector xv = load_x(x + t * p.cols);
      for (int r = 0; r < R; ++r) sums[r][t] = hn::MulAdd(wv[r], xv, sums[r][t]);
    }
  };
  std::int64_t c = 0;
  for (; c + lanes <= p.cols; c += lanes) {
    const auto load = [c](const auto* at) HWY_ATTR { return load_floats(at + c); };
    add_column(load, load);
  }
  if (const std::int64_t rest = p.cols - c; rest > 0) {
    const auto load = [c, rest](const auto* at) HWY_ATTR { return load_tail(at + c, rest); };
    add_column(load, load);
  }
  for (int t = 0; t < T; ++t) {
    for (int r = 0; r < R; ++r) {
      const float sum = hn::GetLane(hn::SumOfLanes(FloatTag(), sums[r][t]));
      p.out[(token + t) * p.out_stride + row + r] = p.bias != nullptr ? sum + p.bias[row + r] : sum;
    }
  }
}

template <int T, class Element>
void multiply_all_rows(const RowsProduct& p, std::int64_t token) {
  constexpr int at_once = T > 2 ? 2 : 4;
  std::int64_t row = 0;
  for (; row + at_once <= p.n_rows; row += at_once) multiply_floats<at_once, T, Element>(p, row, token);
  for (; row < p.n_rows; ++row) multiply_floats<1, T, Element>(p, row, token);
}

template <class Element>
void multiply_float_rows(const RowsProduct& p) {
  std::int64_t token = 0;
  for (; token + 4 <= p.n_tokens; token += 4) multiply_all_rows<4, Element>(p, token);
  if (p.n_tokens - token == 3) multiply_all_rows<3, Element>(p, token);
  if (p.n_tokens - token == 2) multiply_all_rows<2, Element>(p, token);
  if (p.n_tokens - token == 1) multiply_all_rows<1, Element>(p, token);
}

inline RowsKernel find_float_kernel(FloatElement element) {
  switch (element) {
    case FloatElement::f16:
      return &multiply_float_rows<hwy::float16_t>;
    case FloatElement::bf16:
      return &multiply_float_rows<hwy::bfloat16_t>;
    default:
      return &multiply_float_rows<float>;
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
