// Ops::decode_units.
#include "kernels/cuda/latent/decode_kernel.cuh"
#include "kernels/cuda/latent/latent.h"

namespace cga::cuda {

int multiprocessors_in_use() {
  int device = 0, n = 0;
  check(cudaGetDevice(&device), "the device's shape");
  check(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device), "the device's shape");
  return n;
}

DecodeShape choose_decode_shape(std::int64_t n_channels, std::int64_t n_units) {
  return decode_shape(n_channels, n_units, multiprocessors_in_use());
}

void decode_units(const DecodeUnitsArgs& args, cudaStream_t stream) {
  if (args.n_units == 0 || args.n_pieces == 0) return;
  const Reconstruct write{args.latent.mean, args.latent.inverse_scale, args.out, args.row};
  if (args.shape == DecodeShape{2, 2}) return launch_decode_kernel<2, 2>(args, write, stream);
  if (args.shape == DecodeShape{2, 1}) return launch_decode_kernel<2, 1>(args, write, stream);
  launch_decode_kernel<1, 1>(args, write, stream);
}

}  // namespace cga::cuda
