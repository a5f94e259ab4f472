// The kernels, compiled once for each instruction set and chosen at run time by Highway.
#include "kernels/cpu/matmul/kernels.h"
#include "kernels/cpu/matmul/matmul.h"

// A few sets are enough: the baseline, SSE4, AVX2, and AVX-512 with VNNI; the platform's own elsewhere.
// AVX-512 without VNNI gains nothing over AVX2 with 32-byte vectors; SVE's vectors cannot be array elements.
#define HWY_WANT_AVX3_DL 1
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3 | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/matmul/simd.cpp"
// clang-format off
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
// clang-format on

#include "kernels/cpu/matmul/activations-inl.h"
#include "kernels/cpu/matmul/float_rows-inl.h"
#include "kernels/cpu/matmul/panel_rows-inl.h"

#if HWY_ONCE
namespace cga::cpu {

HWY_EXPORT(find_panel_kernel);
HWY_EXPORT(find_float_kernel);
HWY_EXPORT(quantise_tile_simd);

RowsKernel panel_kernel(const PanelForm& form) {
  return HWY_DYNAMIC_DISPATCH(find_panel_kernel)(form);
}

RowsKernel float_kernel(FloatElement element) {
  return HWY_DYNAMIC_DISPATCH(find_float_kernel)(element);
}

void quantise_tile(const float* x, std::int64_t cols, int n, ActivationBlock* out) {
  HWY_DYNAMIC_DISPATCH(quantise_tile_simd)(x, cols, n, out);
}

HWY_EXPORT(target_name);

std::string_view simd_target() {
  return HWY_DYNAMIC_DISPATCH(target_name)();
}

}  // namespace cga::cpu
#endif  // HWY_ONCE
