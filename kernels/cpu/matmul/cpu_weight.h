// A weight as this backend multiplies it: rows in units of 8, and the function that knows their arrangement.
#pragma once

#include "kernels/cpu/matmul/aligned_memory.h"
#include "kernels/cpu/matmul/kernels.h"
#include "kernels/ops.h"

namespace cga::cpu {

struct CpuWeight final : PreparedWeight {
  RowsKernel kernel = nullptr;
  const std::byte* data = nullptr;  // into `memory`, or into the file
  std::int64_t unit_bytes = 0;      // from one 8 rows to the next
  bool quantised = false;           // multiplies ActivationBlocks, not floats
  bool wide_scales = false;
  AlignedMemory memory;
};

}  // namespace cga::cpu
