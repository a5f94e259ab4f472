// 2^x in vectors: what softmax and SiLU spend their time on.
#if defined(CGA_EXP2_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGA_EXP2_INL_H_
#undef CGA_EXP2_INL_H_
#else
#define CGA_EXP2_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace cga::cpu::HWY_NAMESPACE {

/// 2^x for x in [-126, 128], within 2 ulp; NaN for NaN, exactly 1 for 0, infinity for 128.
/// x = n + r with |r| <= 1/2; 2^r by the polynomial of degree 5 with constant 1 and the least relative error
/// (1.1e-7).
template <class F>
HWY_INLINE hwy::HWY_NAMESPACE::Vec<F> exp2_in_range(F f, hwy::HWY_NAMESPACE::Vec<F> x) {
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::RebindToUnsigned<F> u;
  // Adding 1.5 * 2^23 rounds to an integer, left in the low bits; + 127 makes those the exponent of 2^n.
  const auto magic = hn::Set(f, 12582912.0f + 127.0f);
  const auto shifted = hn::Add(x, magic);
  const auto r = hn::Sub(x, hn::Sub(shifted, magic));
  const auto power = hn::BitCast(f, hn::ShiftLeft<23>(hn::BitCast(u, shifted)));
  auto y = hn::Set(f, 1.326472731307149e-3f);
  y = hn::MulAdd(y, r, hn::Set(f, 9.671512991189957e-3f));
  y = hn::MulAdd(y, r, hn::Set(f, 5.550733581185341e-2f));
  y = hn::MulAdd(y, r, hn::Set(f, 2.4022242426872253e-1f));
  y = hn::MulAdd(y, r, hn::Set(f, 6.931470036506653e-1f));
  y = hn::MulAdd(y, r, hn::Set(f, 1.0f));
  return hn::Mul(y, power);
}

}  // namespace cga::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // CGA_EXP2_INL_H_
