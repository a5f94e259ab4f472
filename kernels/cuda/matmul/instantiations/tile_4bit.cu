#include "kernels/cuda/matmul/tile_kernels.cuh"

template const cga::cuda::TileKernels*
cga::cuda::tile_kernels<cga::cuda::IntegerTile<4, 32, false, 8>>();  // Q4_0
