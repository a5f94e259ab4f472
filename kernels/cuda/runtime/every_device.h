// What every device has that the kernels are for, of compute capability 8.0 and later.
#pragma once

namespace cga::cuda {

/// Bytes of shared memory that a CTA may ask for: what 8.6, 8.9 and 12.0 have. 8.0 has 163 KB, 9.0 has 227.
inline constexpr int least_shared_per_cta = 99 << 10;

}  // namespace cga::cuda
