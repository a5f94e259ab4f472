#include "kernels/cuda/matmul/tile_kernels.cuh"

template const cga::cuda::TileKernels*
cga::cuda::tile_kernels<cga::cuda::IntegerTile<5, 32, false, 16>>();  // Q5_0
