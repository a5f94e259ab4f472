// Matrix products on the CPU. Block types are repacked once, when a model loads, into panels that SIMD
// units multiply without shuffling (panel.h); float types stay where the file is mapped.
// docs/kernels/matmul.md has the arithmetic behind the layout, and what was measured.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "base/thread_pool.h"
#include "kernels/cpu/matmul/aligned_memory.h"
#include "kernels/ops.h"

namespace cga::cpu {

/// Memory that matmul works in. Grows to what the largest call needs, and is then reused.
struct MatmulScratch {
  AlignedMemory activations;  // the input as int16: ActivationBlock[n_tokens, cols / 32], tiled
  AlignedMemory panels;       // two unpacked panels a thread
};

/// @throws Error (memory) naming the weight and the bytes its packed form takes
std::unique_ptr<PreparedWeight> prepare_weight(const WeightView& weight, ThreadPool& pool);

/// What prepare_weight will take, unless scales turn out not to fit f16 (then up to a tenth more).
std::int64_t prepared_bytes(const WeightView& weight);

/// Ops::matmul. A token's results depend neither on the number of threads nor on the other tokens of the
/// call.
void matmul(std::span<const MatmulTarget> targets, const float* x, std::int64_t n_tokens, ThreadPool& pool,
            MatmulScratch& scratch);

/// The instruction set chosen for this processor: "AVX2", "AVX3_DL", …
std::string_view simd_target();

}  // namespace cga::cpu
