// The ops of the index, which run on the CPU only so far. The engine does not get here: it
// asks for has_compact() when options are resolved.
#include "cga/error.h"
#include "kernels/cuda/cuda_ops.h"

namespace cga::cuda {
namespace {

[[noreturn]] void refuse() {
  throw Error(ErrorKind::device, "--kv cga", "the CUDA backend has no kernels for it yet",
              "use --kv bf16, or --device cpu");
}

}  // namespace

void CudaOps::index_keys(const IndexKeysParams&) {
  refuse();
}
void CudaOps::score_units(const ScoreUnitsParams&) {
  refuse();
}
void CudaOps::top_units(const TopUnitsParams&) {
  refuse();
}
void CudaOps::attention_mass(const AttentionMassParams&) {
  refuse();
}

}  // namespace cga::cuda
