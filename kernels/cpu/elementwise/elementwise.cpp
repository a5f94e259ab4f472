// Ops::rms_norm, rope, swiglu and add: one pass over memory each, vectors along a row.
// clang-format off
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise/elementwise.cpp"
#include <hwy/foreach_target.h>  // must precede highway.h
#include <hwy/highway.h>
// clang-format on

#include <cmath>

#include "kernels/cpu/elementwise/elementwise.h"
#include "kernels/cpu/elementwise/exp2-inl.h"
#include "kernels/cpu/elementwise/split.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F = hn::ScalableTag<float>;
using Floats = hn::Vec<F>;

HWY_INLINE std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(F()));
}

float sum_of_squares(const float* x, std::int64_t n) {
  const F f;
  const std::int64_t step = lanes();
  Floats a = hn::Zero(f), b = a, c = a, d = a;  // four chains hide the latency of FMA
  std::int64_t i = 0;
  for (; i + 4 * step <= n; i += 4 * step) {
    const Floats p = hn::LoadU(f, x + i), q = hn::LoadU(f, x + i + step);
    const Floats r = hn::LoadU(f, x + i + 2 * step), s = hn::LoadU(f, x + i + 3 * step);
    a = hn::MulAdd(p, p, a);
    b = hn::MulAdd(q, q, b);
    c = hn::MulAdd(r, r, c);
    d = hn::MulAdd(s, s, d);
  }
  for (; i + step <= n; i += step) {
    const Floats p = hn::LoadU(f, x + i);
    a = hn::MulAdd(p, p, a);
  }
  float sum = hn::GetLane(hn::SumOfLanes(f, hn::Add(hn::Add(a, b), hn::Add(c, d))));
  for (; i < n; ++i) sum += x[i] * x[i];
  return sum;
}

void rms_norm_rows(float* out, const float* x, const float* weight, float eps, std::int64_t n_rows,
                   std::int64_t dim) {
  const F f;
  for (std::int64_t row = 0; row < n_rows; ++row, x += dim, out += dim) {
    const float norm = 1.0f / std::sqrt(sum_of_squares(x, dim) / static_cast<float>(dim) + eps);
    const Floats norms = hn::Set(f, norm);
    std::int64_t i = 0;
    for (; i + lanes() <= dim; i += lanes()) {
      hn::StoreU(hn::Mul(hn::Mul(hn::LoadU(f, x + i), norms), hn::LoadU(f, weight + i)), f, out + i);
    }
    for (; i < dim; ++i) out[i] = x[i] * norm * weight[i];
  }
}

/// One head.  x: [2 * half]; cos, sin: [half]
void rotate_halves(float* x, const float* cos, const float* sin, std::int64_t half) {
  const F f;
  std::int64_t i = 0;
  for (; i + lanes() <= half; i += lanes()) {
    const Floats a = hn::LoadU(f, x + i), b = hn::LoadU(f, x + half + i);
    const Floats c = hn::LoadU(f, cos + i), s = hn::LoadU(f, sin + i);
    hn::StoreU(hn::NegMulAdd(b, s, hn::Mul(a, c)), f, x + i);
    hn::StoreU(hn::MulAdd(b, c, hn::Mul(a, s)), f, x + half + i);
  }
  for (; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = a * sin[i] + b * cos[i];
  }
}

void rotate_interleaved(float* x, const float* cos, const float* sin, std::int64_t half) {
  const F f;
  std::int64_t i = 0;
  for (; i + lanes() <= half; i += lanes()) {
    Floats a, b;
    hn::LoadInterleaved2(f, x + 2 * i, a, b);
    const Floats c = hn::LoadU(f, cos + i), s = hn::LoadU(f, sin + i);
    hn::StoreInterleaved2(hn::NegMulAdd(b, s, hn::Mul(a, c)), hn::MulAdd(b, c, hn::Mul(a, s)), f, x + 2 * i);
  }
  for (; i < half; ++i) {
    const float a = x[2 * i], b = x[2 * i + 1];
    x[2 * i] = a * cos[i] - b * sin[i];
    x[2 * i + 1] = a * sin[i] + b * cos[i];
  }
}

/// x: [n_tokens, n_heads, 2 * half]; cos_sin: [n_tokens, 2, half]
void rope_tokens(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens, std::int64_t n_heads,
                 std::int64_t half) {
  const auto rotate = pairs == RopePairs::halves ? rotate_halves : rotate_interleaved;
  for (std::int64_t t = 0; t < n_tokens; ++t, cos_sin += 2 * half) {
    for (std::int64_t h = 0; h < n_heads; ++h, x += 2 * half) rotate(x, cos_sin, cos_sin + half, half);
  }
}

/// e^x; saturates to 2^-126 and to infinity.
HWY_INLINE Floats exponential(Floats x) {
  const F f;
  x = hn::Mul(x, hn::Set(f, 1.44269504f));                                                // log2(e)
  return exp2_in_range(f, hn::Min(hn::Set(f, 128.0f), hn::Max(hn::Set(f, -126.0f), x)));  // keeps NaN on x86
}

HWY_INLINE Floats silu_times(Floats gate, Floats up) {
  const F f;
  const Floats denominator = hn::Add(hn::Set(f, 1.0f), exponential(hn::Neg(gate)));
  return hn::Mul(hn::Div(gate, denominator), up);
}

void swiglu_range(float* out, const float* gate, const float* up, std::int64_t n) {
  const F f;
  std::int64_t i = 0;
  for (; i + lanes() <= n; i += lanes()) {
    hn::StoreU(silu_times(hn::LoadU(f, gate + i), hn::LoadU(f, up + i)), f, out + i);
  }
  for (; i < n; ++i) out[i] = hn::GetLane(silu_times(hn::Set(f, gate[i]), hn::Set(f, up[i])));
}

void add_range(float* x, const float* y, std::int64_t n) {
  const F f;
  std::int64_t i = 0;
  for (; i + lanes() <= n; i += lanes())
    hn::StoreU(hn::Add(hn::LoadU(f, x + i), hn::LoadU(f, y + i)), f, x + i);
  for (; i < n; ++i) x[i] += y[i];
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cga::cpu {
namespace {

HWY_EXPORT(rms_norm_rows);
HWY_EXPORT(rope_tokens);
HWY_EXPORT(swiglu_range);
HWY_EXPORT(add_range);

}  // namespace

void embed(float* out, const WeightView& table, std::span<const std::int32_t> ids, ThreadPool& pool) {
  const std::int64_t n_blocks = table.cols / table.type->block_values;
  split_rows(
      pool, static_cast<std::int64_t>(ids.size()), table.cols, [&](std::int64_t first, std::int64_t last) {
        for (std::int64_t t = first; t < last; ++t) {
          table.type->decode(table.row(ids[static_cast<std::size_t>(t)]), n_blocks, out + t * table.cols);
        }
      });
}

void rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
              std::int64_t dim, ThreadPool& pool) {
  split_rows(pool, n_tokens, dim, [&](std::int64_t first, std::int64_t last) {
    HWY_DYNAMIC_DISPATCH(rms_norm_rows)(out + first * dim, x + first * dim, weight, eps, last - first, dim);
  });
}

void rope_angles(float* cos_sin, std::span<const std::int32_t> positions,
                 std::span<const float> inverse_frequency, float magnitude, ThreadPool& pool) {
  const auto half = static_cast<std::int64_t>(inverse_frequency.size());
  constexpr std::int64_t cost = 64;  // a sine and a cosine in f64, counted in plain elements
  split_rows(pool, static_cast<std::int64_t>(positions.size()), cost * half,
             [&](std::int64_t first, std::int64_t last) {
               for (std::int64_t t = first; t < last; ++t) {
                 const auto position = static_cast<float>(positions[static_cast<std::size_t>(t)]);
                 float* cos = cos_sin + t * 2 * half;
                 float* sin = cos + half;
                 for (std::int64_t i = 0; i < half; ++i) {
                   // The product is rounded to f32, as in the models' training code; the rest is exact to
                   // f32.
                   const double angle = position * inverse_frequency[static_cast<std::size_t>(i)];
                   cos[i] = static_cast<float>(std::cos(angle) * magnitude);
                   sin[i] = static_cast<float>(std::sin(angle) * magnitude);
                 }
               }
             });
}

void rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens, std::int32_t n_heads,
          std::int32_t head_dim, ThreadPool& pool) {
  const std::int64_t row = std::int64_t{n_heads} * head_dim;
  split_rows(pool, n_tokens, row, [&](std::int64_t first, std::int64_t last) {
    HWY_DYNAMIC_DISPATCH(rope_tokens)
    (x + first * row, cos_sin + first * head_dim, pairs, last - first, n_heads, head_dim / 2);
  });
}

void swiglu(float* out, const float* gate, const float* up, std::int64_t n, ThreadPool& pool) {
  split_rows(pool, n, 1, [&](std::int64_t first, std::int64_t last) {
    HWY_DYNAMIC_DISPATCH(swiglu_range)(out + first, gate + first, up + first, last - first);
  });
}

void add(float* x, const float* y, std::int64_t n, ThreadPool& pool) {
  split_rows(pool, n, 1, [&](std::int64_t first, std::int64_t last) {
    HWY_DYNAMIC_DISPATCH(add_range)(x + first, y + first, last - first);
  });
}

}  // namespace cga::cpu
#endif  // HWY_ONCE
