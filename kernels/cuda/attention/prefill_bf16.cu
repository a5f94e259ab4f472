#include "kernels/cuda/attention/prefill_kernel.cuh"

namespace cga::cuda {

template void launch_prefill<KvElement::bf16, 64>(const AttendArgs&, const float*, cudaStream_t);
template void launch_prefill<KvElement::bf16, 128>(const AttendArgs&, const float*, cudaStream_t);

}  // namespace cga::cuda
