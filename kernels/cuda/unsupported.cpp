// The ops of the archive, which run on the CPU only so far. The engine does not get here: it asks for
// has_compact() when options are resolved.
#include "cga/error.h"
#include "kernels/cuda/cuda_ops.h"

namespace cga::cuda {
namespace {

[[noreturn]] void refuse() {
  throw Error(ErrorKind::device, "--kv cga", "the CUDA backend has no kernels for it yet",
              "use --kv bf16, or --device cpu");
}

}  // namespace

std::unique_ptr<PreparedLatent> CudaOps::prepare_latent(const LatentView&) {
  refuse();
}
std::int64_t CudaOps::prepared_latent_bytes(const LatentView&) const {
  refuse();
}
void CudaOps::encode_pages(const EncodeParams&) {
  refuse();
}
void CudaOps::decode_units(const DecodeParams&) {
  refuse();
}
void CudaOps::gather_pages(const GatherPagesParams&) {
  refuse();
}
void CudaOps::scatter_units(const ScatterUnitsParams&) {
  refuse();
}

}  // namespace cga::cuda
