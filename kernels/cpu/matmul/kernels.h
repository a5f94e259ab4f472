// The seam between the loop over threads (matmul.cpp) and the code compiled once for each instruction set
// (simd.cpp): functions chosen at run time for this processor.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/matmul/panel.h"

namespace cga::cpu {

/// Consecutive rows of one weight times some tokens.
struct RowsProduct {
  const std::byte* weights = nullptr;  // the rows: panels, or floats as in the file
  std::int64_t n_rows = 0, cols = 0;
  bool wide_scales = false;
  const ActivationBlock* quantised = nullptr;  // [n_tokens, cols / 32], tiled; for panels
  const float* x = nullptr;                    // [n_tokens, cols]; for floats
  std::int64_t n_tokens = 0;
  const float* bias = nullptr;  // [n_rows] or null
  float* out = nullptr;         // [n_tokens, n_rows], rows of tokens out_stride apart
  std::int64_t out_stride = 0;
  std::byte* unpacked = nullptr;  // [2, 64] unpacked blocks, scratch
};
using RowsKernel = void (*)(const RowsProduct& product);

enum class FloatElement { f32, f16, bf16 };

RowsKernel panel_kernel(const PanelForm& form);
RowsKernel float_kernel(FloatElement element);

/// Quantises n (1 to 4) tokens of `cols` values into one tile.  x: [n, cols]; out: [cols / 32, n].
/// A block with a value that is not finite gets a NaN scale; one below 2^-110 everywhere becomes zero.
void quantise_tile(const float* x, std::int64_t cols, int n, ActivationBlock* out);

}  // namespace cga::cpu
