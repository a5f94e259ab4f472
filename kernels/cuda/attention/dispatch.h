// The launchers that attend.cu chooses from; each is instantiated in a file of its own.
#pragma once

#include "kernels/cuda/attention/attention.h"

namespace cga::cuda {

/// head_dim 64 or 128; bf16, q8 or q4.
template <KvElement element, int head_dim>
void launch_decode(const AttendArgs& args, cudaStream_t stream);

/// The same shapes, at most tile_rows query heads a KV head, pages only.
/// @param q  as args.q; of q4, transformed by hadamard()
template <KvElement element, int head_dim>
void launch_prefill(const AttendArgs& args, const float* q, cudaStream_t stream);

/// Every shape.
void attend_general(const AttendArgs& args, cudaStream_t stream);

}  // namespace cga::cuda
