// Panels times activations: everything around the innermost loop, which is panel_tile_x86-inl.h where there
// is AVX2 and panel_tile_portable-inl.h elsewhere. Those provide, for a Form known at compile time,
//   PackedBlocks<Form>                            a reader of a panel's blocks
//   UnpackedBlocks<Form> unpack(packed, …)        another, faster to read again and again
//   multiply_tile<P, T>(panels, n_blocks, x, …)   P panels times the T tokens of a tile
// The order of a result's sums depends on nothing but the number of columns.
// clang-format off
#if defined(CGA_PANEL_ROWS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_PANEL_ROWS_INL_H
#undef CGA_PANEL_ROWS_INL_H
#else
#define CGA_PANEL_ROWS_INL_H
#endif
// clang-format on

#include <algorithm>

#include "hwy/highway.h"
#include "kernels/cpu/matmul/kernels.h"
#if HWY_TARGET == HWY_AVX2 || (HWY_ARCH_X86 && HWY_TARGET < HWY_AVX2)
#include "kernels/cpu/matmul/panel_tile_x86-inl.h"
#else
#include "kernels/cpu/matmul/panel_tile_portable-inl.h"
#endif

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

// With more tokens than this panels are unpacked once, into cache, instead of in each of their tiles.
inline constexpr std::int64_t max_packed_tokens = 2 * tile_tokens;

/// Adds the bias and writes one token's rows [row, row + n_rows).
inline void write_rows(const RowsProduct& p, std::int64_t row, std::int64_t token, std::int64_t n_rows,
                       const float* sums) {
  float* out = p.out + token * p.out_stride + row;
  for (std::int64_t r = 0; r < n_rows; ++r) {
    out[r] = p.bias != nullptr ? sums[r] + p.bias[row + r] : sums[r];
  }
}

/// P panels times a tile of n tokens.
template <int P, class Blocks>
void multiply_tokens(const Blocks (&panels)[P], std::int64_t n_blocks, const ActivationBlock* x, int n,
                     float* sums, std::int64_t sums_stride) {
  static_assert(tile_tokens == 4);
  if (n == 4) multiply_tile<P, 4>(panels, n_blocks, x, sums, sums_stride);
  if (n == 3) multiply_tile<P, 3>(panels, n_blocks, x, sums, sums_stride);
  if (n == 2) multiply_tile<P, 2>(panels, n_blocks, x, sums, sums_stride);
  if (n == 1) multiply_tile<P, 1>(panels, n_blocks, x, sums, sums_stride);
}

/// One panel, as it is packed, times all tokens.
template <class Form>
void multiply_packed(const RowsProduct& p, std::int64_t row, const PackedBlocks<Form>& panel) {
  const std::int64_t n_blocks = p.cols / block_cols,
                     n_rows = std::min<std::int64_t>(panel_rows, p.n_rows - row);
  for (std::int64_t token = 0; token < p.n_tokens; token += tile_tokens) {
    const auto n = static_cast<int>(std::min<std::int64_t>(tile_tokens, p.n_tokens - token));
    alignas(32) float sums[tile_tokens * panel_rows] = {};
    multiply_tokens<1, PackedBlocks<Form>>({panel}, n_blocks, p.quantised + token * n_blocks, n, sums,
                                           panel_rows);
    for (int t = 0; t < n; ++t) write_rows(p, row, token + t, n_rows, sums + t * panel_rows);
  }
}

/// P panels times all tokens (at most max_block_tokens), stretch by stretch of unpacked columns.
template <int P, class Form>
void multiply_unpacked(const RowsProduct& p, std::int64_t row, PackedBlocks<Form> (&panels)[P]) {
  constexpr std::int64_t stride = P * panel_rows;
  constexpr int block_bytes = unpacked_block_bytes(Form::narrow.n_groups());
  const std::int64_t n_blocks = p.cols / block_cols;
  alignas(32) float sums[max_block_tokens * stride];
  std::fill_n(sums, p.n_tokens * stride, 0.0f);
  for (std::int64_t first = 0; first < n_blocks; first += stretch_blocks) {
    const std::int64_t n_stretch = std::min(stretch_blocks, n_blocks - first);
    UnpackedBlocks<Form> unpacked[P];
    for (int i = 0; i < P; ++i) {
      unpacked[i] = unpack(panels[i], n_stretch, p.unpacked + i * stretch_blocks * block_bytes);
    }
    for (std::int64_t token = 0; token < p.n_tokens; token += tile_tokens) {
      const auto n = static_cast<int>(std::min<std::int64_t>(tile_tokens, p.n_tokens - token));
      const ActivationBlock* x = p.quantised + token * n_blocks + first * n;
      multiply_tokens<P>(unpacked, n_stretch, x, n, sums + token * stride, stride);
    }
  }
  const std::int64_t n_rows = std::min<std::int64_t>(stride, p.n_rows - row);
  for (std::int64_t t = 0; t < p.n_tokens; ++t) write_rows(p, row, t, n_rows, sums + t * stride);
}

template <class Form>
void multiply_panels(const RowsProduct& p) {
  using Packed = PackedBlocks<Form>;
  const std::int64_t panel_bytes = p.cols / block_cols * Packed(p.weights, p.wide_scales).block_bytes();
  const auto panel_at = [&](std::int64_t row) {
    return Packed(p.weights + row / panel_rows * panel_bytes, p.wide_scales);
  };
  std::int64_t row = 0;
  if (p.n_tokens <= max_packed_tokens) {
    for (; row < p.n_rows; row += panel_rows) multiply_packed<Form>(p, row, panel_at(row));
    return;
  }
  for (; row + panel_rows < p.n_rows; row += panels_at_once * panel_rows) {
    static_assert(panels_at_once == 2);
    Packed pair[] = {panel_at(row), panel_at(row + panel_rows)};
    multiply_unpacked(p, row, pair);
  }
  if (row < p.n_rows) {
    Packed last[] = {panel_at(row)};
    multiply_unpacked(p, row, last);
  }
}

template <int kBits, int kGroup, bool kHasMin>
struct Form {
  static constexpr PanelForm narrow{kBits, kGroup, kHasMin, false};
  static constexpr PanelForm wide{kBits, kGroup, kHasMin, true};
};

template <int kBits, int kGroup>
RowsKernel find_kernel_of(bool has_min) {
  return has_min ? &multiply_panels<Form<kBits, kGroup, true>> : &multiply_panels<Form<kBits, kGroup, false>>;
}

/// The forms that are compiled: those of common types, and 6 and 8 bits in groups of 16, which hold the rest.
inline RowsKernel find_panel_kernel(const PanelForm& form) {
  if (form.group == 16) {
    return form.bits == 6 ? find_kernel_of<6, 16>(form.has_min) : find_kernel_of<8, 16>(form.has_min);
  }
  if (form.bits == 4) return find_kernel_of<4, 32>(form.has_min);
  if (form.bits == 5) return find_kernel_of<5, 32>(form.has_min);
  return find_kernel_of<8, 32>(form.has_min);
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
