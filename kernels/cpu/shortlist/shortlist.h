// The likeliest tokens of rows of logits. On the CPU nobody needs them, because sampling reads logits where
// they lie; they are here because the contract is whole in every backend.
#pragma once

#include "base/thread_pool.h"
#include "kernels/ops.h"

namespace cga::cpu {

void shortlist(const ShortlistParams& params, ThreadPool& pool);

}  // namespace cga::cpu
