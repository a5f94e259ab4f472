#include "kernels/cuda/attention/prefill_kernel.cuh"

namespace cga::cuda {

template void launch_prefill<KvElement::q8, 64>(const AttendArgs&, const float*, cudaStream_t);
template void launch_prefill<KvElement::q8, 128>(const AttendArgs&, const float*, cudaStream_t);

}  // namespace cga::cuda
