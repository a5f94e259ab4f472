// Marks inline functions that both compilers see: plain C++ on the host, also device code under nvcc.
#pragma once

#if defined(__CUDACC__)
#define CGA_HOST_DEVICE __host__ __device__
#else
#define CGA_HOST_DEVICE
#endif
