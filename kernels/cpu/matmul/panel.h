// How a quantised matrix lies in memory while it is multiplied, and how its input does.
//
// A panel is 8 rows; it is cut into blocks of 32 columns. A vector of 32 bytes holds 4 consecutive columns of
// all 8 rows, row by row, so multiplications by 4 broadcast activations leave each row's partial sum in its
// own 32-bit lane and nothing is ever summed across lanes. A block has 8 such vectors of codes, g = 0 … 7:
//
//   low planes   4 × 32 bytes  vector i: the low 4 bits of g = i in the low nibbles, of g = i + 4 in the high
//   high plane   5 bits: 32 bytes, bit g of a byte belongs to vector g
//                6 bits: 2 × 32 bytes, one for g < 4 and one for the rest; bits 2(g mod 4) and up
//   or, 8 bits:  8 × 32 bytes of signed codes, q - 128
//   scales       [32 / group][8 rows], f16 (f32 in a matrix whose scales f16 cannot hold)
//   minima       [32 / group][8 rows], likewise, if the form has them
//
// Its values are w = scale * (q - zero) - min with zero = 2^(bits-1) without minima. With minima zero is
// 0, but for 8 bits, whose codes are stored signed: there it is 128. Other zeros are folded into the minima.
// Blocks follow each other along the columns, panels along the rows: a product reads one stream of bytes.
#pragma once

#include <cstdint>

namespace cga::cpu {

inline constexpr int panel_rows = 8;
inline constexpr int block_cols = 32;
inline constexpr int block_vectors = 8;  // of codes in a block, 32 bytes each once unpacked
inline constexpr int tile_tokens = 4;    // tokens multiplied by one pass over a panel

struct PanelForm {
  int bits = 0;   // 4, 5, 6 or 8
  int group = 0;  // 16 or 32
  bool has_min = false;
  bool wide_scales = false;  // f32 instead of f16

  constexpr int zero() const { return has_min && bits < 8 ? 0 : 1 << (bits - 1); }
  constexpr int code_bytes() const { return panel_rows * block_cols * bits / 8; }
  constexpr int n_groups() const { return block_cols / group; }
  constexpr int scale_bytes() const { return panel_rows * n_groups() * (wide_scales ? 4 : 2); }
  constexpr int block_bytes() const { return code_bytes() + scale_bytes() * (has_min ? 2 : 1); }
};

/// 32 consecutive values of one token's input: x ≈ scale * q, in 16 bits.
/// Of every four columns the middle two change places: 0, 2, 1, 3. The even bytes of a vector of codes then
/// meet one pair of q, the odd bytes the other, and codes become 16 bits with a mask and a shift.
struct ActivationBlock {
  std::int16_t q[block_cols];  // in ±32767
  float scale;
  float sum;          // scale * Σ q: what a min or a zero multiplies
  float half_sum[2];  // the same for each 16 values
};
static_assert(sizeof(ActivationBlock) == 80);

/// Where column c of each four is in ActivationBlock::q.
inline constexpr int activation_order[4] = {0, 2, 1, 3};

// Activations are stored in tiles of up to 4 tokens: for each tile, for each block of columns, its tokens.
// Token t's tile starts at block t * n_blocks, for t a multiple of 4.

// With many tokens two panels at a time are unpacked, a stretch of columns after another, and multiplied by
// a block of tokens while they are in cache.
inline constexpr int panels_at_once = 2;
inline constexpr std::int64_t stretch_blocks = 64;  // 2048 columns
inline constexpr std::int64_t max_block_tokens = 256;

/// What unpacking a panel's block leaves: 8 pairs of vectors of 16-bit codes (even columns, odd columns),
/// then [n_groups][8] scales and [n_groups][8] corrections, f32.
constexpr int unpacked_block_bytes(int n_groups) {
  return 512 + 64 * n_groups;
}

}  // namespace cga::cpu
