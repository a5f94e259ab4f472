#include "kernels/cuda/matmul/tile_kernels.cuh"

template const cga::cuda::TileKernels*
cga::cuda::tile_kernels<cga::cuda::IntegerTile<8, 32, false, 128>>();  // Q8_0
