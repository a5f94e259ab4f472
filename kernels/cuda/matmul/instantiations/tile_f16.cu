#include "kernels/cuda/matmul/tile_kernels.cuh"

template const cga::cuda::TileKernels* cga::cuda::tile_kernels<cga::cuda::FloatTile<cga::cuda::F16>>();
