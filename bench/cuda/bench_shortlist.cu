// Time of shortlists on the CUDA backend: kernels alone, with logits in L2 as the head leaves them and from
// memory, against the floor of reading them once; and until the host has the result, beside a copy of whole
// rows. From the repository's root:
//   nvcc -std=c++20 --expt-relaxed-constexpr -O3 -arch=native -I. -Isrc -Iinclude -Itests
//     bench/cuda/bench_shortlist.cu kernels/cuda/shortlist/shortlist.cu
//     kernels/cuda/runtime/check.cpp src/base/error.cpp -lcublasLt -o bench_shortlist
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "cuda/device_array.h"
#include "kernels/cuda/shortlist/shortlist.h"
#include "support/normal.h"
#include "timing_cuda.cuh"

using namespace cga;
using namespace cga::test;
using cuda::check;

namespace {

constexpr std::size_t beyond_l2 = std::size_t{256} << 20;

/// Pinned memory of the host.
class Pinned {
 public:
  explicit Pinned(std::size_t bytes) { check(cudaMallocHost(&data_, bytes), "pinned memory"); }
  ~Pinned() { cudaFreeHost(data_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }

 private:
  void* data_ = nullptr;
};

/// Microseconds of work() until the host sees its end, the best of 50.
template <class Work>
double time_host(cudaStream_t stream, const Work& work) {
  double best = 1e30;
  for (int i = 0; i < 50; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    check(cudaStreamSynchronize(stream), "running");
    const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - start;
    best = std::min(best, taken.count());
  }
  return best;
}

void bench(cudaStream_t stream, double bandwidth, int n_vocab, int n_rows, int k) {
  const std::size_t row = static_cast<std::size_t>(n_vocab), n = row * static_cast<std::size_t>(n_rows);
  const std::size_t n_copies = std::max<std::size_t>(beyond_l2 / (n * sizeof(float)), 2);
  const std::vector<float> values = normal(n, 1, 3.0f);
  const DeviceArray<float> logits(n * n_copies);
  for (std::size_t copy = 0; copy < n_copies; ++copy) {
    check(cudaMemcpy(logits.data() + copy * n, values.data(), n * sizeof(float), cudaMemcpyHostToDevice),
          "logits");
  }
  const DeviceArray<std::byte> workspace(cuda::shortlist_workspace_bytes(n_rows));
  const Pinned likeliest(static_cast<std::size_t>(n_rows * k) * sizeof(Candidate)),
      summaries(static_cast<std::size_t>(n_rows) * sizeof(LogitSummary)), whole(n * sizeof(float));
  const auto start = [&](std::size_t copy) {
    cuda::shortlist({.logits = logits.data() + copy % n_copies * n,
                     .n_rows = n_rows,
                     .n_vocab = n_vocab,
                     .k = k,
                     .likeliest = likeliest.as<Candidate>(),
                     .summaries = summaries.as<LogitSummary>(),
                     .workspace = workspace.data()},
                    stream);
  };
  const auto time_kernels = [&](std::size_t step) {
    constexpr int launches = 64;
    return time_graph(stream,
                      [&] {
                        for (std::size_t i = 0; i < launches; ++i) start(i * step);
                      }) /
           launches;
  };
  const double in_l2 = time_kernels(0), from_memory = time_kernels(1);
  const double to_host = time_host(stream, [&] { start(0); });
  const double copied = time_host(stream, [&] {
    check(
        cudaMemcpyAsync(whole.as<float>(), logits.data(), n * sizeof(float), cudaMemcpyDeviceToHost, stream),
        "copy");
  });
  const double bytes = static_cast<double>(n) * sizeof(float), floor = bytes / bandwidth / 1e3;
  std::printf(
      "%2d x %6d, first %3d: %6.1f us in L2, %6.1f from memory, %5.0f GB/s, floor %5.2f us (%4.1f %%); "
      "to the host %6.1f us, whole rows %6.1f us\n",
      n_rows, n_vocab, k, in_l2, from_memory, bytes / from_memory / 1e3, floor, 100 * floor / from_memory,
      to_host, copied);
}

}  // namespace

int main() {
  cudaStream_t stream;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
  const double bandwidth = read_bandwidth(stream);
  std::printf("plain reads: %.0f GB/s\n", bandwidth);
  for (const int n_vocab : {49'152, 128'256, 151'936}) {
    for (const int n_rows : {1, 8, 32}) {
      for (const int k : {64, 256}) bench(stream, bandwidth, n_vocab, n_rows, k);
    }
  }
  cudaStreamDestroy(stream);
}
