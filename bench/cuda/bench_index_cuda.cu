// Time of the index's ops on the CUDA backend: scores against the bandwidth of plain reads, the choice, and
// keys, each over enough anchors that none is left in L2. Built with CGA_BENCH; alone, from the repository's
// root:
//   nvcc -std=c++20 --expt-relaxed-constexpr -O3 -arch=native -I. -Isrc -Iinclude -Itests
//     bench/cuda/bench_index_cuda.cu kernels/cuda/index/[kst]*.cu kernels/cuda/runtime/check.cpp
//     src/base/error.cpp -lcublasLt -o bench_index_cuda
#include <cstdio>
#include <vector>

#include "kernels/cuda/index/index.h"
#include "support/normal.h"
#include "timing_cuda.cuh"

using namespace cga;
using namespace cga::test;

namespace {

constexpr int n_heads = 12;

/// Keys of n_anchors anchors, and what a row of queries needs.
struct Index {
  IndexLayout layout;
  int n_pages, n_anchors;
  DeviceArray<std::byte> memory;
  DeviceArray<std::int32_t> ids;
  DeviceArray<float> q, weights, cos_sin;

  Index(int width, int n_tokens, int n_rows)
      : layout{width},
        n_pages(n_tokens / page_tokens),
        n_anchors(static_cast<int>((400 << 20) / anchor_bytes()) + 1),
        memory(n_anchors * anchor_bytes(), 0x11),
        ids(shuffled(n_pages)),
        q(normal(std::size_t(n_rows) * n_heads * width, 1)),
        weights(normal(std::size_t(n_rows) * n_heads, 2)),
        cos_sin(normal(std::size_t(n_rows) * width / 2, 3)) {}

  std::int64_t anchor_bytes() const { return n_pages * layout.page_bytes(); }

  static std::vector<std::int32_t> shuffled(int n) {
    std::vector<std::int32_t> ids(n);
    for (int i = 0; i < n; ++i) ids[i] = static_cast<int>((std::int64_t{i} * 7919 + 13) % n);  // 7919: prime
    return ids;
  }
};

void bench_choice(cudaStream_t stream, double peak, int width, int n_tokens, int n_rows) {
  const Index index(width, n_tokens, n_rows);
  const int n_units = n_tokens / unit_tokens, count = 64;
  std::vector<cuda::ScoredMeta> rows;
  for (int r = 0; r < n_rows; ++r) rows.push_back({r, 1, n_units, 0});
  const DeviceArray<cuda::ScoredMeta> meta(rows);
  const DeviceArray<float> scores(normal(std::size_t(n_rows) * n_units, 4));
  const DeviceArray<std::int32_t> units(std::size_t(n_rows) * count);
  const int launches = std::max(16, index.n_anchors);
  const auto score = [&] {
    for (int i = 0; i < launches; ++i) {
      cuda::ScoreUnitsArgs args;
      args.q = index.q.data();
      args.weights = index.weights.data();
      args.cos_sin = index.cos_sin.data();
      args.n_heads = n_heads;
      args.base = index.memory.data() + i % index.n_anchors * index.anchor_bytes();
      args.layout = index.layout;
      args.rows = meta.data();
      args.pages = index.ids.data();
      args.n_rows = n_rows;
      args.most_units = n_units;
      args.scores = scores.data();
      args.stride = n_units;
      cuda::score_units(args, stream);
    }
  };
  const double us = time_graph(stream, score) / launches;
  const auto bytes = static_cast<double>(index.anchor_bytes());  // rows of a sequence read the same keys
  std::printf("score   width %3d, %d rows x %6d tokens: %7.2f us %7.0f GB/s %4.0f %% of reads\n", width,
              n_rows, n_tokens, us, bytes / us / 1e3, 100 * bytes / us / 1e3 / peak);

  const DeviceArray<float> spread(normal(std::size_t(n_rows) * n_units, 4));
  const DeviceArray<cuda::Before> before_of(
      std::vector<cuda::Before>(std::size_t(n_rows), {cuda::no_predecessor, 0}));
  const DeviceArray<std::int32_t> counts(std::size_t(n_rows), 0);
  const auto choose = [&] {
    for (int i = 0; i < 16; ++i) {
      cuda::TopUnitsArgs args;
      args.scores = spread.data();
      args.stride = n_units;
      args.rows = meta.data();
      args.n_rows = n_rows;
      args.count = count;
      args.before_of = before_of.data();
      args.units = units.data();
      args.counts = counts.data();
      cuda::top_units(args, stream);
    }
  };
  std::printf("choose  %d of %d units, %d rows: %7.2f us\n", count, n_units, n_rows,
              time_graph(stream, choose) / 16);
}

void bench_keys(cudaStream_t stream, int width, int n_rows) {
  const Index index(width, 1024, n_rows);
  const DeviceArray<float> k(normal(std::size_t(n_rows) * width, 1));
  const DeviceArray<cuda::SequenceMeta> meta(std::vector<cuda::SequenceMeta>{{0, n_rows, 0, 0}});
  const auto add = [&] {
    for (int i = 0; i < 16; ++i) {
      cuda::IndexKeysArgs args;
      args.k = k.data();
      args.cos_sin = index.cos_sin.data();
      args.base = index.memory.data();
      args.layout = index.layout;
      args.sequences = meta.data();
      args.pages = index.ids.data();
      args.n_sequences = 1;
      args.n_rows = n_rows;
      cuda::index_keys(args, stream);
    }
  };
  std::printf("keys    width %3d, %3d rows: %7.2f us\n", width, n_rows, time_graph(stream, add) / 16);
}

}  // namespace

int main() {
  cudaStream_t stream;
  cuda::check(cudaStreamCreate(&stream), "stream");
  const double peak = read_bandwidth(stream);
  std::printf("reads %.0f GB/s\n", peak);
  for (const int width : {32, 64}) {
    for (const int n_tokens : {16384, 131072}) {
      for (const int n_rows : {1, 16}) bench_choice(stream, peak, width, n_tokens, n_rows);
    }
    for (const int n_rows : {1, 512}) bench_keys(stream, width, n_rows);
  }
  cudaStreamDestroy(stream);
}
