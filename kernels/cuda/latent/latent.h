// The latent codec on a GPU (Ops::prepare_latent to Ops::scatter_units): coding, decoding, and the way
// between pages of exact keys and values and the rows that are coded. docs/kernels/cuda-latent.md tells what
// it costs and why it is done this way.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "kernels/cuda/latent/params.h"
#include "kernels/cuda/matmul/device_array.h"
#include "kernels/ops.h"

namespace cga::cuda {

/// A prepared transform and its memory.
class CudaLatent final : public PreparedLatent {
 public:
  LatentData data;
  DeviceArray memory;
};

inline const CudaLatent& cuda_latent(const PreparedLatent* prepared) {
  return static_cast<const CudaLatent&>(*prepared);
}

std::unique_ptr<PreparedLatent> prepare_latent(DeviceAllocator& allocator, cudaStream_t stream,
                                               const LatentView& view);
std::int64_t prepared_latent_bytes(const LatentView& view);

int multiprocessors_in_use();

/// The shape in which this device decodes such a call.
DecodeShape choose_decode_shape(std::int64_t n_channels, std::int64_t n_units);

void decode_units(const DecodeUnitsArgs& args, cudaStream_t stream);
void encode_pages(const EncodeArgs& args, cudaStream_t stream);

/// @param x  [args.n, 64, channels], f32
void gather_pages(const FrameArgs& args, float* x, cudaStream_t stream);
/// @param x  [args.n, 16, channels], f32
void scatter_units(const FrameArgs& args, const float* x, cudaStream_t stream);

}  // namespace cga::cuda
