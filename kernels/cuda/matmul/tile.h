// How a weight matrix lies in device memory: cut into tiles of 16 rows by 64 columns, each arranged so that
// the 32 lanes of a warp read their operands of mma.m16n8k16 with 16-byte loads.
//
// Lane l = 4 g + t of a warp owns, in rows g and g + 8 of a tile, 8 of the 32 columns of each half h (0, 1):
// its values v = 0 … 7, which column_in_half() places. Values 4m … 4m + 3 belong to the half's m-th mma; an
// mma sums over its 16 columns, so any placement is right as long as the activations follow it, and as long
// as an mma does not straddle two groups of columns with different scales.
//
// A matrix has up to three arrays, each [row tiles, column tiles, …]: a warp going along a row of tiles
// reads each of them as a stream.
//   codes    4 to 6 bits: [32 lanes] of 16 bytes, a word for each (h, row); in it the low four bits of value
//   v
//            at bit 4 (v / 2) + 16 (v % 2), so that a shift and a mask give two codes in 16-bit halves
//            8 bits: [2 halves, 32 lanes] of 16 bytes, a word for each (row, m), value 4m + 2j + e in byte
//            2e + j
//            16-bit floats: [4 mmas, 32 lanes] of 16 bytes, the fragment as mma reads it
//   plane    5 bits: [32 lanes] of 4 bytes, value v of (h, row) at bit 8 h + 4 row + v / 2 + 16 (v % 2)
//            6 bits: [32 lanes, 2 halves] of 4 bytes, two bits at 2 (4 row + v / 2) + 16 (v % 2)
//   numbers  [8 g][scales, minima if any][rows g and g + 8][64 / group], f16, divided by the row's scale
// A code q read as the bits of an f16 is the subnormal q * 2^-24: exact, and free. As bytes, the words of 4
// and 8 bits are operands of the integer mma.m16n8k32, with columns in yet another order (column_of_byte).
//
// Rows are padded to 16 and columns to 64, with zeros.
#pragma once

#include <cstdint>

#include "base/host_device.h"

namespace cga::cuda {

inline constexpr int tile_rows = 16;
inline constexpr int tile_cols = 64;

constexpr std::int64_t round_up(std::int64_t n, std::int64_t step) {
  return (n + step - 1) / step * step;
}

/// Codes of a quantised type: w = scale * (q - zero) - min.
template <int Bits, int Group, bool HasMin, int Zero>
struct IntegerTile {
  static constexpr bool is_float = false;
  static constexpr int bits = Bits, group = Group, zero = Zero;
  static constexpr bool has_min = HasMin;
  static constexpr int code_bytes = tile_rows * tile_cols * (Bits == 8 ? 8 : 4) / 8;
  static constexpr int plane_bytes = Bits == 8 ? 0 : tile_rows * tile_cols * (Bits - 4) / 8;
  static constexpr int n_groups = tile_cols / Group;
  static constexpr int numbers_bytes = tile_rows * n_groups * 2 * (HasMin ? 2 : 1);
  static constexpr int planes = 1;                                                   // activations: f16
  static constexpr bool integer_products = Group == 32 && (Bits == 4 || Bits == 8);  // else in f16
  static constexpr int code_unit = Bits == 4 ? 16 : 1;  // of a code in integer products
  static constexpr int step = Bits <= 5 ? 2 : 1;  // tiles that the decode kernels copy and multiply together;
                                                  // more of the larger would not fit in registers
  static_assert(!HasMin || Zero == 0);
};

struct F16 {};
struct BF16 {};

/// 16-bit floats. Activations are split into the rounded value and its rounding error, so that nothing is
/// lost but what lies 16 (bf16) or 22 (f16) bits below a value's highest.
template <class Element>
struct FloatTile {
  using element = Element;
  static constexpr bool is_float = true;
  static constexpr int bits = 16, group = 32, zero = 0;
  static constexpr bool has_min = false, integer_products = false;
  static constexpr int code_bytes = tile_rows * tile_cols * 2;
  static constexpr int plane_bytes = 0, n_groups = 0, numbers_bytes = 0;
  static constexpr int planes = 2;
  static constexpr int step = 1;
};

/// Where value v of the lanes with l % 4 == t is in a half of a tile, 0 … 31.
template <int Group>
CGA_HOST_DEVICE constexpr int column_in_half(int t, int v) {
  return Group == 16 ? 16 * (v / 4) + 4 * t + v % 4 : 8 * t + v;
}

/// A matrix on the device, in tiles.
struct TileArrays {
  const std::byte* codes = nullptr;    // [row_tiles, col_tiles, code_bytes]
  const std::byte* plane = nullptr;    // [row_tiles, col_tiles, plane_bytes]
  const std::byte* numbers = nullptr;  // [row_tiles, col_tiles, numbers_bytes]
  const float* row_scale = nullptr;    // [rows padded to 16], powers of two
  std::int64_t col_tiles = 0;
};

}  // namespace cga::cuda
