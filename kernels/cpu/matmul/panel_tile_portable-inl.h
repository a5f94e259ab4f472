// The innermost loop where there is no special code for the instruction set: plain loops over a block, rows
// innermost, which compilers vectorise as they can.
// No include guard: panel_rows-inl.h, its only user, includes it once for each target it is for.

#include <cstring>

#include "base/half.h"
#include "hwy/highway.h"
#include "kernels/cpu/matmul/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

/// A block as numbers: w = scale * code - correction.
struct PlainBlock {
  std::int16_t codes[block_vectors][panel_rows][4];
  float scale[2][panel_rows];
  float correction[2][panel_rows];
};

/// Reads a panel's blocks in turn.
template <class FormT>
class PackedBlocks {
 public:
  using Form = FormT;
  PackedBlocks() = default;
  PackedBlocks(const std::byte* panel, bool wide)
      : at_(reinterpret_cast<const std::uint8_t*>(panel)), wide_(wide) {}

  int block_bytes() const { return wide_ ? Form::wide.block_bytes() : Form::narrow.block_bytes(); }
  void next() { at_ += block_bytes(); }

  void read(PlainBlock& out) const {
    constexpr PanelForm form = Form::narrow;
    auto* codes = &out.codes[0][0][0];
    for (int g = 0; g < block_vectors; ++g) {
      for (int i = 0; i < 32; ++i) codes[32 * g + i] = static_cast<std::int16_t>(code(g, i));
    }
    constexpr auto zero = static_cast<float>(form.bits == 8 ? 0 : form.zero());
    for (int i = 0; i < form.n_groups(); ++i) {
      for (int r = 0; r < panel_rows; ++r) {
        out.scale[i][r] = number(i * panel_rows + r);
        out.correction[i][r] = zero * out.scale[i][r];
        if (form.has_min) out.correction[i][r] += number((form.n_groups() + i) * panel_rows + r);
      }
    }
  }

 private:
  /// Byte i of vector g.
  int code(int g, int i) const {
    constexpr int bits = Form::narrow.bits;
    if (bits == 8) return static_cast<std::int8_t>(at_[32 * g + i]);
    const int low = (at_[32 * (g % 4) + i] >> (g < 4 ? 0 : 4)) & 15;
    if (bits == 5) return low | ((at_[128 + i] >> g) & 1) << 4;
    if (bits == 6) return low | ((at_[128 + 32 * (g / 4) + i] >> (2 * (g % 4))) & 3) << 4;
    return low;
  }

  float number(int i) const {
    const std::uint8_t* numbers = at_ + Form::narrow.code_bytes();
    if (wide_) {
      float value;
      std::memcpy(&value, numbers + 4 * i, 4);
      return value;
    }
    std::uint16_t half;
    std::memcpy(&half, numbers + 2 * i, 2);
    return f16_to_f32(half);
  }

  const std::uint8_t* at_ = nullptr;
  bool wide_ = false;
};

/// The same from memory that unpack() filled.
template <class FormT>
class UnpackedBlocks {
 public:
  using Form = FormT;
  UnpackedBlocks() = default;
  explicit UnpackedBlocks(const PlainBlock* blocks) : at_(blocks) {}

  void next() { ++at_; }
  void read(PlainBlock& out) const { out = *at_; }

 private:
  const PlainBlock* at_ = nullptr;
};
static_assert(sizeof(PlainBlock) <= unpacked_block_bytes(2));

/// Unpacks n blocks into `out` and leaves `blocks` behind the last of them.
template <class Form>
UnpackedBlocks<Form> unpack(PackedBlocks<Form>& blocks, std::int64_t n, std::byte* out) {
  auto* plain = reinterpret_cast<PlainBlock*>(out);
  for (std::int64_t b = 0; b < n; ++b, blocks.next()) blocks.read(plain[b]);
  return UnpackedBlocks<Form>(plain);
}

/// One panel times the T tokens of a tile.
template <int T, class Blocks>
void multiply_panel(Blocks w, std::int64_t n_blocks, const ActivationBlock* x, float* sums,
                    std::int64_t sums_stride) {
  using Form = typename Blocks::Form;
  constexpr int n_groups = Form::narrow.n_groups(), n_vectors = block_vectors / n_groups;
  PlainBlock block;
  for (std::int64_t b = 0; b < n_blocks; ++b, w.next(), x += T) {
    w.read(block);
    for (int group = 0; group < n_groups; ++group) {
      for (int t = 0; t < T; ++t) {
        std::int32_t products[panel_rows] = {};
        for (int g = group * n_vectors; g < (group + 1) * n_vectors; ++g) {
          for (int c = 0; c < 4; ++c) {
            const std::int32_t activation = x[t].q[4 * g + activation_order[c]];
            for (int r = 0; r < panel_rows; ++r) products[r] += block.codes[g][r][c] * activation;
          }
        }
        const float sum = n_groups == 1 ? x[t].sum : x[t].half_sum[group];
        float* out = sums + t * sums_stride;
        for (int r = 0; r < panel_rows; ++r) {
          out[r] += static_cast<float>(products[r]) * (block.scale[group][r] * x[t].scale);
          out[r] -= block.correction[group][r] * sum;
        }
      }
    }
  }
}

/// P panels times the T tokens of a tile: adds n_blocks blocks to the sums.
/// x: [n_blocks, T]; sums: [T, sums_stride], of which each token's first P * 8.
template <int P, int T, class Blocks>
void multiply_tile(const Blocks (&panels)[P], std::int64_t n_blocks, const ActivationBlock* x, float* sums,
                   std::int64_t sums_stride) {
  for (int p = 0; p < P; ++p) {
    multiply_panel<T>(panels[p], n_blocks, x, sums + p * panel_rows, sums_stride);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
