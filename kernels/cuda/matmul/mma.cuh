// The tensor core's product of a 16 x 16 and a 16 x 8 matrix, and loads of its operands.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/matmul/tile.h"

namespace cga::cuda {

/// c[16, 8] += a[16, 16] b[16, 8].  Lane 4 g + t holds rows g and g + 8 of a and c, column g of b, columns
/// 2 t and 2 t + 1 of c.
template <class Element>
__device__ __forceinline__ void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1);

template <>
__device__ __forceinline__ void mma<F16>(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                         std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

template <>
__device__ __forceinline__ void mma<BF16>(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                          std::uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// c[16, 8] = a[16, 32] b[32, 8], exactly, of bytes: b signed, a signed or not. Lane 4 g + t holds of a, in
/// bytes, rows g and g + 8 of columns 4 t … 4 t + 3, then both of columns 16 + 4 t …; of b, rows 4 t … of
/// column g, then rows 16 + 4 t …; c as above.
template <bool Signed>
__device__ __forceinline__ void mma_bytes(int (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                          std::uint32_t b1) {
  if constexpr (Signed) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
  } else {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
        "{%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
  }
}

/// Where an address lies, for loads that must be told.
enum class Space { global, shared };

/// 16 or 8 bytes, or whatever was in the registers if the lane has no use for them. Lanes that load nothing
/// cost no bandwidth.
template <Space space>
__device__ __forceinline__ uint4 load_16_if(bool used, const std::byte* at) {
  uint4 v;
  if constexpr (space == Space::shared) {
    asm("{.reg .pred p; setp.ne.u32 p, %5, 0; mov.u32 %0, 0; mov.u32 %1, 0; mov.u32 %2, 0; mov.u32 %3, 0; @p "
        "ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];}"
        : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
        : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(at))), "r"(static_cast<int>(used)));
  } else {
    asm("{.reg .pred p; setp.ne.u32 p, %5, 0; mov.u32 %0, 0; mov.u32 %1, 0; mov.u32 %2, 0; mov.u32 %3, 0; @p "
        "ld.global.v4.u32 {%0, %1, %2, %3}, [%4];}"
        : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
        : "l"(at), "r"(static_cast<int>(used)));
  }
  return v;
}

template <Space space>
__device__ __forceinline__ uint2 load_8_if(bool used, const std::byte* at) {
  uint2 v;
  if constexpr (space == Space::shared) {
    asm("{.reg .pred p; setp.ne.u32 p, %3, 0; mov.u32 %0, 0; mov.u32 %1, 0; @p ld.shared.v2.u32 {%0, %1}, "
        "[%2];}"
        : "=&r"(v.x), "=&r"(v.y)
        : "r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(at))), "r"(static_cast<int>(used)));
  } else {
    asm("{.reg .pred p; setp.ne.u32 p, %3, 0; mov.u32 %0, 0; mov.u32 %1, 0; @p ld.global.v2.u32 {%0, %1}, "
        "[%2];}"
        : "=&r"(v.x), "=&r"(v.y)
        : "l"(at), "r"(static_cast<int>(used)));
  }
  return v;
}

}  // namespace cga::cuda
