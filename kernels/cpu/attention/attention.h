// Keys and values into pages, and causal attention over them (Ops::append, Ops::attend).
// docs/kernels/attention.md tells what it costs and why it is done this way.
#pragma once

#include <hwy/aligned_allocator.h>

#include <cstddef>
#include <new>

#include "base/thread_pool.h"
#include "kernels/cpu/attention/plan.h"
#include "kernels/ops.h"

namespace cga::cpu {

/// Memory of attend, kept from call to call; grows to the largest batch seen.
class AttentionScratch {
 public:
  AttendPlan plan;

  /// At least n floats, aligned for vectors; their values are unspecified.
  float* floats(std::size_t n) {
    if (n > size_) {
      size_ = 0;
      floats_ = hwy::AllocateAligned<float>(n);
      if (floats_ == nullptr) throw std::bad_alloc();
      size_ = n;
    }
    return floats_.get();
  }

 private:
  hwy::AlignedFreeUniquePtr<float[]> floats_;
  std::size_t size_ = 0;
};

void append(const AppendParams& params, ThreadPool& pool);
void attend(const AttendParams& params, ThreadPool& pool, AttentionScratch& scratch);

}  // namespace cga::cpu
