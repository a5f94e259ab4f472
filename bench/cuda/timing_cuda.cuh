// What the CUDA benchmarks time with: graphs replayed, and the bandwidth of plain reads beside them.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <vector>

#include "cuda/device_array.h"

namespace cga::test {

/// Microseconds of replays of a graph of work(), in ascending order.
template <class Work>
std::vector<double> replay_times(cudaStream_t stream, const Work& work, int replays) {
  constexpr int uncounted = 3;
  work();  // kernels are loaded outside of the graph
  cuda::check(cudaStreamSynchronize(stream), "kernels");
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  cudaEvent_t begin, end;
  cuda::check(cudaEventCreate(&begin), "event");
  cuda::check(cudaEventCreate(&end), "event");
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
  work();
  cuda::check(cudaStreamEndCapture(stream, &graph), "capture");
  cuda::check(cudaGraphInstantiate(&exec, graph, 0), "graph");
  std::vector<double> times;
  for (int i = 0; i < uncounted + replays; ++i) {
    cuda::check(cudaEventRecord(begin, stream), "event");
    cuda::check(cudaGraphLaunch(exec, stream), "graph");
    cuda::check(cudaEventRecord(end, stream), "event");
    cuda::check(cudaEventSynchronize(end), "event");
    float ms;
    cuda::check(cudaEventElapsedTime(&ms, begin, end), "event");
    if (i >= uncounted) times.push_back(ms * 1e3);
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  return times;
}

/// The best of five.
template <class Work>
double time_graph(cudaStream_t stream, const Work& work) {
  return replay_times(stream, work, 5).front();
}

/// The median of fifteen.
template <class Work>
double median_graph(cudaStream_t stream, const Work& work) {
  return replay_times(stream, work, 15)[7];
}

static __global__ void read_kernel(const float4* from, std::size_t n, float* out) {
  float sum = 0;
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
#pragma unroll 8
  for (std::size_t i = std::size_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    const float4 x = __ldcs(from + i);
    sum += x.x + x.y + x.z + x.w;
  }
  if (sum == 1.0f) *out = sum;  // never: keeps the loads
}

/// GB/s of reading 4 GiB.
inline double read_bandwidth(cudaStream_t stream) {
  const std::size_t n = std::size_t{4} << 30;
  const DeviceArray<std::byte> from(n);
  const DeviceArray<float> out(1);
  const double us = time_graph(stream, [&] {
    read_kernel<<<132 * 16, 512, 0, stream>>>(reinterpret_cast<const float4*>(from.data()), n / 16,
                                              out.data());
  });
  return static_cast<double>(n) / us / 1e3;
}

}  // namespace cga::test
