// The small ops between the products, with Ops' parameters and shapes (kernels/ops.h). A decode step calls
// them hundreds of times on a few kilobytes: such calls stay on the calling thread, since a fork costs
// microseconds.
#pragma once

#include <cstdint>
#include <span>

#include "base/thread_pool.h"
#include "kernels/ops.h"

namespace cga::cpu {

void embed(float* out, const WeightView& table, std::span<const std::int32_t> ids, ThreadPool& pool);

void rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
              std::int64_t dim, ThreadPool& pool);

void rope_angles(float* cos_sin, std::span<const std::int32_t> positions,
                 std::span<const float> inverse_frequency, float magnitude, ThreadPool& pool);

void rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens, std::int32_t n_heads,
          std::int32_t head_dim, ThreadPool& pool);

void swiglu(float* out, const float* gate, const float* up, std::int64_t n, ThreadPool& pool);

void add(float* x, const float* y, std::int64_t n, ThreadPool& pool);

}  // namespace cga::cpu
