#include "kernels/cuda/attention/decode_kernel.cuh"

namespace cga::cuda {

template void launch_decode<KvElement::bf16, 64>(const AttendArgs&, cudaStream_t);
template void launch_decode<KvElement::bf16, 128>(const AttendArgs&, cudaStream_t);

}  // namespace cga::cuda
