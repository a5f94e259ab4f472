// The latent codec on the CPU (Ops::prepare_latent to Ops::scatter_units): coding, decoding, and the way
// between pages of exact keys and values and the rows that are coded. docs/kernels/latent.md tells what it
// costs and why it is done this way.
#pragma once

#include <memory>

#include "base/thread_pool.h"
#include "kernels/cpu/matmul/aligned_memory.h"
#include "kernels/ops.h"

namespace cga::cpu {

/// Memory of encode_pages and decode_units, kept from call to call; bounded by the transform's shape.
struct LatentScratch {
  AlignedMemory channels, components, threads;
};

std::unique_ptr<PreparedLatent> prepare_latent(const LatentView& view, ThreadPool& pool);
std::int64_t prepared_latent_bytes(const LatentView& view);
void encode_pages(const EncodeParams& params, ThreadPool& pool, LatentScratch& scratch);
void decode_units(const DecodeParams& params, ThreadPool& pool, LatentScratch& scratch);
void gather_pages(const GatherPagesParams& params, ThreadPool& pool);
void scatter_units(const ScatterUnitsParams& params, ThreadPool& pool);

}  // namespace cga::cpu
