// The innermost loop on AVX2 and on AVX-512 with VNNI (32-byte vectors in both: a vector is 8 rows × 4
// columns).
// No include guard: panel_rows-inl.h, its only user, includes it once for each target it is for.

#include <immintrin.h>

#include <cstring>

#include "hwy/highway.h"
#include "kernels/cpu/matmul/kernels.h"

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

#if HWY_TARGET <= HWY_AVX3_DL
inline constexpr bool has_vnni = true;

/// sum + the four products in each 32-bit lane. Written as an instruction because compilers told of AVX-VNNI
/// too (Highway 1.0.3 does) choose its encoding, which most processors with AVX512-VNNI lack.
HWY_INLINE __m256i add_products(__m256i sum, __m256i unsigned_bytes, __m256i signed_bytes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
}
#else
inline constexpr bool has_vnni = false;
HWY_INLINE __m256i add_products(__m256i sum, __m256i, __m256i) {
  return sum;
}
#endif

/// Codes as the dot product wants them: unsigned, except 8-bit codes without VNNI, which stay signed.
template <class Form>
inline constexpr bool signed_codes = Form::narrow.bits == 8 && !has_vnni;

/// Whether w = scale * code - correction with a correction that is not zero.
template <class Form>
inline constexpr bool has_correction = Form::narrow.has_min || !signed_codes<Form>;

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
  HWY_INLINE PackedBlocks(const std::byte* panel, bool wide) : at_(panel), wide_(wide) {}

  HWY_INLINE int block_bytes() const { return wide_ ? Form::wide.block_bytes() : Form::narrow.block_bytes(); }
  HWY_INLINE void next() { at_ += block_bytes(); }

  /// Vector g of the block: 8 rows × 4 columns of codes.
  HWY_INLINE __m256i codes(int g) const {
    if constexpr (Form::narrow.bits == 8) {
      const __m256i q = load(at_ + 32 * g);
      return has_vnni ? _mm256_xor_si256(q, _mm256_set1_epi8(static_cast<char>(0x80))) : q;
    } else {
      const __m256i low = mask(shift_right(load(at_ + 32 * (g % 4)), g < 4 ? 0 : 4), 0x0f);
      if constexpr (Form::narrow.bits == 4) return low;
      if constexpr (Form::narrow.bits == 5) {
        return _mm256_or_si256(low, mask(shift_right(load(at_ + 128), g - 4), 0x10));
      }
      return _mm256_or_si256(low, mask(shift_right(load(at_ + 128 + 32 * (g / 4)), 2 * (g % 4) - 4), 0x30));
    }
  }

  HWY_INLINE __m256 scale(int group) const { return numbers(group); }

  /// What the sum of the group's activations is multiplied by and subtracted.
  HWY_INLINE __m256 correction(int group) const {
    constexpr PanelForm form = Form::narrow;
    const auto zero = static_cast<float>(signed_codes<Form> ? 0 : form.zero());
    if constexpr (!form.has_min) return _mm256_mul_ps(scale(group), _mm256_set1_ps(zero));
    const __m256 min = numbers(form.n_groups() + group);
    if constexpr (form.zero() == 0 || signed_codes<Form>) return min;
    return _mm256_fmadd_ps(scale(group), _mm256_set1_ps(zero), min);
  }

 private:
  /// The i-th 8 scales (or, after those, minima) as floats.
  HWY_INLINE __m256 numbers(int i) const {
    const std::byte* at = at_ + Form::narrow.code_bytes();
    if (wide_) return _mm256_loadu_ps(reinterpret_cast<const float*>(at + 32 * i));
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at + 16 * i)));
  }

  const std::byte* at_;
  bool wide_;
};

/// The same from memory that unpack() filled: codes as bytes, numbers as f32.
template <class FormT>
class UnpackedBlocks {
 public:
  using Form = FormT;
  HWY_INLINE explicit UnpackedBlocks(const std::byte* blocks) : at_(blocks) {}

  HWY_INLINE void next() { at_ += unpacked_block_bytes(Form::narrow.n_groups()); }
  HWY_INLINE __m256i codes(int g) const { return load(at_ + 32 * g); }
  HWY_INLINE __m256 scale(int group) const { return numbers(group); }
  HWY_INLINE __m256 correction(int group) const { return numbers(Form::narrow.n_groups() + group); }

 private:
  HWY_INLINE __m256 numbers(int i) const {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(at_ + 256 + 32 * i));
  }

  const std::byte* at_;
};

template <class Form>
UnpackedBlocks<Form> unpack(PackedBlocks<Form> blocks, std::int64_t n_blocks, std::byte* scratch) {
  constexpr int n_groups = Form::narrow.n_groups();
  std::byte* out = scratch;
  for (std::int64_t b = 0; b < n_blocks; ++b, blocks.next(), out += unpacked_block_bytes(n_groups)) {
#pragma GCC unroll 8
    for (int g = 0; g < block_vectors; ++g) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + 32 * g), blocks.codes(g));
    }
    auto* numbers = reinterpret_cast<float*>(out + 256);
    for (int i = 0; i < n_groups; ++i) {
      _mm256_storeu_ps(numbers + 8 * i, blocks.scale(i));
      _mm256_storeu_ps(numbers + 8 * (n_groups + i), blocks.correction(i));
    }
  }
  return UnpackedBlocks<Form>(scratch);
}

HWY_INLINE __m256i broadcast4(const std::int8_t* bytes) {
  std::int32_t word;
  std::memcpy(&word, bytes, 4);
  return _mm256_set1_epi32(word);
}

/// Σ code * activation over one group's columns, for T tokens: 8 rows in 8 lanes.
template <int T, class Blocks>
HWY_INLINE void integer_sums(const Blocks& w, int group, const ActivationBlock* x, __m256i (&sums)[T]) {
  using Form = typename Blocks::Form;
  constexpr int bits = Form::narrow.bits, n_vectors = block_vectors / Form::narrow.n_groups();
  const int first = group * n_vectors;
  if constexpr (has_vnni) {
#pragma GCC unroll 4
    for (int t = 0; t < T; ++t) sums[t] = _mm256_setzero_si256();
#pragma GCC unroll 8
    for (int g = first; g < first + n_vectors; ++g) {
      const __m256i q = w.codes(g);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) sums[t] = add_products(sums[t], q, broadcast4(x[t].q + 4 * g));
    }
  } else {
    // Products are summed in 16 bits for as many vectors as cannot overflow: with codes up to 2^bits - 1 and
    // activations up to 127 in pairs, 8 for 4 bits (30480), 4 for 5 bits (31496), 2 for 6 bits (32004).
    // Signed 8-bit codes are multiplied as |code| and an activation of the code's sign (32512).
    constexpr int run = bits == 8 ? 1 : std::min(n_vectors, 128 >> bits);
    const __m256i ones = _mm256_set1_epi16(1);
#pragma GCC unroll 8
    for (int start = 0; start < n_vectors; start += run) {
      __m256i pairs[T];
#pragma GCC unroll 8
      for (int i = 0; i < run; ++i) {
        const int g = first + start + i;
        const __m256i q = w.codes(g);
        const __m256i magnitude = bits == 8 ? _mm256_abs_epi8(q) : q;
#pragma GCC unroll 4
        for (int t = 0; t < T; ++t) {
          const __m256i a = broadcast4(x[t].q + 4 * g);
          const __m256i p = _mm256_maddubs_epi16(magnitude, bits == 8 ? _mm256_sign_epi8(a, q) : a);
          pairs[t] = i == 0 ? p : _mm256_add_epi16(pairs[t], p);
        }
      }
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const __m256i fours = _mm256_madd_epi16(pairs[t], ones);
        sums[t] = start == 0 ? fours : _mm256_add_epi32(sums[t], fours);
      }
    }
  }
}

/// T tokens of a tile times one panel.  x: [n_blocks, T]; out: [T][8].
template <int T, class Blocks>
void multiply_tile(Blocks w, std::int64_t n_blocks, const ActivationBlock* x, float (*out)[panel_rows]) {
  using Form = typename Blocks::Form;
  constexpr int n_groups = Form::narrow.n_groups();
  __m256 sums[T];
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) sums[t] = _mm256_setzero_ps();
  for (std::int64_t b = 0; b < n_blocks; ++b, w.next(), x += T) {
#pragma GCC unroll 2
    for (int group = 0; group < n_groups; ++group) {
      __m256i products[T];
      integer_sums<T>(w, group, x, products);
      const __m256 scale = w.scale(group), correction = w.correction(group);
#pragma GCC unroll 4
      for (int t = 0; t < T; ++t) {
        const __m256 step = _mm256_mul_ps(scale, _mm256_set1_ps(x[t].scale));
        sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(products[t]), step, sums[t]);
        if constexpr (has_correction<Form>) {
          const float sum = n_groups == 1 ? x[t].sum : x[t].half_sum[group];
          sums[t] = _mm256_fnmadd_ps(correction, _mm256_set1_ps(sum), sums[t]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int t = 0; t < T; ++t) _mm256_storeu_ps(out[t], sums[t]);
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
