// The innermost loop on AVX2 and on AVX-512 with VNNI (32-byte vectors in both: a vector is 8 rows × 4
// columns).
// No include guard: panel_rows-inl.h, its only user, includes it once for each target it is for.

#include <immintrin.h>

#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/matmul/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

/// sum + the two products of 16-bit numbers in each 32-bit lane.
HWY_INLINE __m256i add_products(__m256i sum, __m256i a, __m256i b) {
#if HWY_TARGET <= HWY_AVX3_DL
  // Written as an instruction because compilers told of AVX-VNNI too (Highway 1.0.3 does) choose its
  // encoding, which most processors with AVX512-VNNI lack.
  asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
#else
  sum = _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
  // GCC would rather add the products as a tree, and keep them in memory until then: twice the time.
  asm("" : "+x"(sum));
#endif
  return sum;
}

/// Whether w = scale * code - correction with a correction that is not zero.
template <class Form>
inline constexpr bool has_correction = Form::narrow.has_min || Form::narrow.zero() != 128;

/// A vector of codes as 16-bit numbers: 8 rows × columns 0 and 2, 8 rows × columns 1 and 3.
struct Codes {
  __m256i even, odd;
};

HWY_INLINE __m256i load(const std::byte* at) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
}

/// Shifts right by n bits, or left if n is negative; the mask that follows drops what crosses bytes.
HWY_INLINE __m256i shift_right(__m256i v, int n) {
  return n >= 0 ? _mm256_srli_epi16(v, n) : _mm256_slli_epi16(v, -n);
}

HWY_INLINE __m256i mask(__m256i v, int bits) {
  return _mm256_and_si256(v, _mm256_set1_epi8(static_cast<char>(bits)));
}

/// Reads a panel's blocks in turn.
template <class FormT>
class PackedBlocks {
 public:
  using Form = FormT;
  PackedBlocks() = default;
  HWY_INLINE PackedBlocks(const std::byte* panel, bool wide) : at_(panel), wide_(wide) {}

  HWY_INLINE int block_bytes() const { return wide_ ? Form::wide.block_bytes() : Form::narrow.block_bytes(); }
  HWY_INLINE void next() { at_ += block_bytes(); }

  HWY_INLINE Codes codes(int g) const {
    if constexpr (Form::narrow.bits == 8) {
      const __m256i q = load(at_ + 32 * g);
      return {_mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8), _mm256_srai_epi16(q, 8)};
    } else {
      const __m256i q = code_bytes(g);
      return {_mm256_and_si256(q, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(q, 8)};
    }
  }

  HWY_INLINE __m256 scale(int group) const { return numbers(group); }

  /// What the sum of the group's activations is multiplied by and subtracted.
  HWY_INLINE __m256 correction(int group) const {
    if constexpr (Form::narrow.has_min) return numbers(Form::narrow.n_groups() + group);
    return _mm256_mul_ps(scale(group), _mm256_set1_ps(static_cast<float>(Form::narrow.zero())));
  }

 private:
  /// Vector g of the block, for less than 8 bits: 8 rows × 4 columns of codes.
  HWY_INLINE __m256i code_bytes(int g) const {
    const __m256i low = mask(shift_right(load(at_ + 32 * (g % 4)), g < 4 ? 0 : 4), 0x0f);
    if constexpr (Form::narrow.bits == 4) return low;
    if constexpr (Form::narrow.bits == 5) {
      return _mm256_or_si256(low, mask(shift_right(load(at_ + 128), g - 4), 0x10));
    }
    return _mm256_or_si256(low, mask(shift_right(load(at_ + 128 + 32 * (g / 4)), 2 * (g % 4) - 4), 0x30));
  }

  /// The i-th 8 scales (or, after those, minima) as floats.
  HWY_INLINE __m256 numbers(int i) const {
    const std::byte* at = at_ + Form::narrow.code_bytes();
    if (wide_) return _mm256_loadu_ps(reinterpret_cast<const float*>(at + 32 * i));
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * i)));
  }

  const std::byte* at_ = nullptr;
  bool wide_ = false;
};

/// The same from memory that unpack() filled: 16-bit codes, and numbers as f32.
template <class FormT>
class UnpackedBlocks {
 public:
  using Form = FormT;
  UnpackedBlocks() = default;
  HWY_INLINE explicit UnpackedBlocks(const std::byte* blocks) : at_(blocks) {}

  HWY_INLINE void next() { at_ += unpacked_block_bytes(Form::narrow.n_groups()); }
  HWY_INLINE Codes codes(int g) const { return {load(at_ + 64 * g), load(at_ + 64 * g + 32)}; }
  HWY_INLINE __m256 scale(int group) const { return numbers(group); }
  HWY_INLINE __m256 correction(int group) const { return numbers(Form::narrow.n_groups() + group); }

 private:
  HWY_INLINE __m256 numbers(int i) const {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at_ + 512 + 32 * i));
  }

  const std::byte* at_ = nullptr;
};

/// Unpacks n blocks into `out` and leaves `blocks` behind the last of them.
template <class Form>
UnpackedBlocks<Form> unpack(PackedBlocks<Form>& blocks, std::int64_t n, std::byte* out) {
  constexpr int n_groups = Form::narrow.n_groups();
  const UnpackedBlocks<Form> unpacked(out);
  for (std::int64_t b = 0; b < n; ++b, blocks.next(), out += unpacked_block_bytes(n_groups)) {
#pragma GCC unroll 8
    for (int g = 0; g < block_vectors; ++g) {
      const Codes codes = blocks.codes(g);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 64 * g), codes.even);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 64 * g + 32), codes.odd);
    }
    auto* numbers = reinterpret_cast<float*>(out + 512);
    for (int i = 0; i < n_groups; ++i) {
      _mm256_storeu_ps(numbers + 8 * i, blocks.scale(i));
      _mm256_storeu_ps(numbers + 8 * (n_groups + i), blocks.correction(i));
    }
  }
  return unpacked;
}

HWY_INLINE __m256i broadcast2(const std::int16_t* pair) {
  std::int32_t word;
  std::memcpy(&word, pair, 4);
  return _mm256_set1_epi32(word);
}

/// Σ code * activation over one group's columns, for P panels and T tokens: 8 rows in 8 lanes. At most
/// 32 * 255 * 32767, which 32 bits hold.
template <int P, int T, class Blocks>
HWY_INLINE void integer_sums(const Blocks (&w)[P], int group, const ActivationBlock* x,
                             __m256i (&sums)[P][T]) {
  constexpr int n_vectors = block_vectors / Blocks::Form::narrow.n_groups();
  const int first = group * n_vectors;
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) sums[p][t] = _mm256_setzero_si256();
  }
#pragma GCC unroll 8
  for (int g = first; g < first + n_vectors; ++g) {
    Codes q[P];
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) q[p] = w[p].codes(g);
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) {
      const __m256i even = broadcast2(x[t].q + 4 * g), odd = broadcast2(x[t].q + 4 * g + 2);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        sums[p][t] = add_products(sums[p][t], q[p].even, even);
        sums[p][t] = add_products(sums[p][t], q[p].odd, odd);
      }
    }
  }
}

/// P panels times the T tokens of a tile: adds n_blocks blocks to the sums.
/// x: [n_blocks, T]; sums: [T, sums_stride], of which each token's first P * 8.
template <int P, int T, class Blocks>
void multiply_tile(const Blocks (&panels)[P], std::int64_t n_blocks, const ActivationBlock* x, float* sums,
                   std::int64_t sums_stride) {
  using Form = typename Blocks::Form;
  constexpr int n_groups = Form::narrow.n_groups();
  Blocks w[P];
  __m256 total[P][T];
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
    w[p] = panels[p];
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) total[p][t] = _mm256_loadu_ps(sums + t * sums_stride + p * panel_rows);
  }
  for (std::int64_t b = 0; b < n_blocks; ++b, x += T) {
#pragma GCC unroll 2
    for (int group = 0; group < n_groups; ++group) {
      __m256i products[P][T];
      integer_sums<P, T>(w, group, x, products);
#pragma GCC unroll 2
      for (int p = 0; p < P; ++p) {
        const __m256 scale = w[p].scale(group), correction = w[p].correction(group);
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const __m256 step = _mm256_mul_ps(scale, _mm256_set1_ps(x[t].scale));
          total[p][t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[p][t]), step, total[p][t]);
          if constexpr (has_correction<Form>) {
            const float sum = n_groups == 1 ? x[t].sum : x[t].half_sum[group];
            total[p][t] = _mm256_fnmadd_ps(correction, _mm256_set1_ps(sum), total[p][t]);
          }
        }
      }
    }
#pragma GCC unroll 2
    for (int p = 0; p < P; ++p) w[p].next();
  }
#pragma GCC unroll 2
  for (int p = 0; p < P; ++p) {
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) _mm256_storeu_ps(sums + t * sums_stride + p * panel_rows, total[p][t]);
  }
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
