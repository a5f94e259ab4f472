// Panels times activations: everything around the innermost loop, which is panel_tile_x86-inl.h where there
// is AVX2 and panel_tile_portable-inl.h elsewhere. Those provide, for a Form known at compile time,
//   PackedBlocks<Form>                           a reader of a panel's blocks
//   unpack(packed, n_blocks, scratch)            another, faster to read again and again
//   multiply_tile<T>(blocks, n_blocks, x, sums)  T tokens of a tile times one panel: sums[T][8]
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

// With more tokens than this a panel is unpacked once, into cache, instead of in each of their tiles.
inline constexpr std::int64_t max_packed_tokens = 2 * tile_tokens;

inline void write_tile(const RowsProduct& p, std::int64_t row, std::int64_t token, int n_tokens,
                       const float (*sums)[panel_rows]) {
  const auto n_rows = static_cast<int>(std::min<std::int64_t>(panel_rows, p.n_rows - row));
  for (int t = 0; t < n_tokens; ++t) {
    float* out = p.out + (token + t) * p.out_stride + row;
    if (n_rows == panel_rows && p.bias == nullptr) {
      for (int r = 0; r < panel_rows; ++r) out[r] = sums[t][r];
    } else {
      for (int r = 0; r < n_rows; ++r) out[r] = sums[t][r] + (p.bias != nullptr ? p.bias[row + r] : 0.0f);
    }
  }
}

/// One panel times all tokens, a tile at a time.
template <class Blocks>
void multiply_panel(const RowsProduct& p, std::int64_t row, Blocks blocks) {
  const std::int64_t n_blocks = p.cols / block_cols;
  alignas(32) float sums[tile_tokens][panel_rows];
  for (std::int64_t token = 0; token < p.n_tokens; token += tile_tokens) {
    const ActivationBlock* x = p.quantised + token * n_blocks;
    const auto n = static_cast<int>(std::min<std::int64_t>(tile_tokens, p.n_tokens - token));
    static_assert(tile_tokens == 4);
    if (n == 4) multiply_tile<4>(blocks, n_blocks, x, sums);
    if (n == 3) multiply_tile<3>(blocks, n_blocks, x, sums);
    if (n == 2) multiply_tile<2>(blocks, n_blocks, x, sums);
    if (n == 1) multiply_tile<1>(blocks, n_blocks, x, sums);
    write_tile(p, row, token, n, sums);
  }
}

template <class Form>
void multiply_panels(const RowsProduct& p) {
  const std::int64_t n_blocks = p.cols / block_cols;
  const std::byte* panel = p.weights;
  for (std::int64_t row = 0; row < p.n_rows; row += panel_rows) {
    const PackedBlocks<Form> packed(panel, p.wide_scales);
    if (p.n_tokens > max_packed_tokens) {
      multiply_panel(p, row, unpack(packed, n_blocks, p.unpacked));
    } else {
      multiply_panel(p, row, packed);
    }
    panel += n_blocks * packed.block_bytes();
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
