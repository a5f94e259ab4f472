#include "kernels/cuda/matmul/tile_kernels.cuh"

template const cga::cuda::TileKernels*
cga::cuda::tile_kernels<cga::cuda::IntegerTile<4, 32, true, 0>>();  // Q4_1, Q4_K
