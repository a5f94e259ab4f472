#include "kernels/cuda/matmul/tile_kernels.cuh"

template const cga::cuda::TileKernels*
cga::cuda::tile_kernels<cga::cuda::IntegerTile<6, 16, false, 32>>();  // Q6_K
