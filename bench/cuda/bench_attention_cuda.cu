// Time of attention on the CUDA backend: decoding against the bandwidth of plain reads on the same device,
// prompts in TFLOP/s. Decoding rotates over enough layers that none is left in L2. Built with CGA_BENCH;
// alone, from the repository's root:
//   nvcc -std=c++20 --expt-relaxed-constexpr -O3 -arch=native -I. -Isrc -Iinclude -Itests
//     bench/cuda/bench_attention_cuda.cu kernels/cuda/attention/*.cu kernels/cuda/runtime/check.cpp
//     src/base/error.cpp -lcublasLt -o bench_attention_cuda
//   ./bench_attention_cuda [decode|prefill|units]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "kernels/cuda/attention/attention.h"
#include "support/normal.h"
#include "timing_cuda.cuh"

using namespace cga;
using namespace cga::test;
using cuda::check;

namespace {

struct Model {
  const char* name;
  int n_heads, n_kv_heads, head_dim;
};
constexpr Model models[] = {
    {"Llama-3-8B", 32, 8, 128}, {"SmolLM2-135M", 9, 3, 64}, {"Qwen2.5-1.5B", 12, 2, 128}};

/// Layers of n_tokens tokens of n_sequences sequences each.
struct Layers {
  KvLayout layout;
  int n_tokens, n_sequences, n_layers, pages_a_sequence;
  std::int64_t layer_bytes;
  DeviceArray<std::byte> memory;
  DeviceArray<std::int32_t> ids;

  Layers(KvLayout l, int tokens, int sequences, std::int64_t least_bytes)
      : layout(l),
        n_tokens(tokens),
        n_sequences(sequences),
        n_layers(0),
        pages_a_sequence((tokens + page_tokens - 1) / page_tokens),
        layer_bytes(std::int64_t{pages_a_sequence} * sequences * l.page_bytes()),
        memory((least_bytes / layer_bytes + 1) * layer_bytes),
        ids(shuffled(pages_a_sequence * sequences)) {
    n_layers = static_cast<int>(memory.size() / layer_bytes);
    fill();
  }

  static std::vector<std::int32_t> shuffled(int n) {
    std::vector<std::int32_t> ids(n);
    for (int i = 0; i < n; ++i) ids[i] = static_cast<int>((std::int64_t{i} * 7919 + 13) % n);  // 7919: prime
    return ids;
  }

  /// Normal keys and values in all pages of all layers.
  void fill() {
    const int rows = std::min(n_layers * pages_a_sequence * n_sequences * page_tokens, 2048);
    const DeviceArray<float> k(normal(std::size_t(rows) * layout.n_kv_heads * layout.head_dim, 1));
    const int n_pages = n_layers * pages_a_sequence * n_sequences;
    std::vector<std::int32_t> all(n_pages);
    for (int i = 0; i < n_pages; ++i) all[i] = i;
    const DeviceArray<std::int32_t> pages(all);
    for (int first = 0; first < n_pages; first += rows / page_tokens) {
      const int n = std::min(rows / page_tokens, n_pages - first);
      const DeviceArray<cuda::SequenceMeta> meta(
          std::vector<cuda::SequenceMeta>{{0, n * page_tokens, 0, first}});
      cuda::AppendArgs args;
      args.k = k.data();
      args.v = k.data();
      args.base = memory.data();
      args.layout = layout;
      args.sequences = meta.data();
      args.pages = pages.data();
      args.n_sequences = 1;
      args.n_rows = n * page_tokens;
      cuda::rope_append(args, nullptr);
      check(cudaDeviceSynchronize(), "append");
    }
  }

  cuda::AttendArgs args(int layer, int n_heads) const {
    cuda::AttendArgs args;
    args.n_heads = n_heads;
    args.scale = 1 / std::sqrt(static_cast<float>(layout.head_dim));
    args.base = memory.data() + layer * layer_bytes;
    args.layout = layout;
    args.pages = ids.data();
    args.n_sequences = n_sequences;
    args.max_tokens = n_tokens;
    return args;
  }
};

void bench_decode(cudaStream_t stream, double peak, const Model& model, KvElement element, int n_tokens,
                  int n_sequences, int bound = 0) {
  const Layers layers({model.n_kv_heads, model.head_dim, element}, n_tokens, n_sequences, 400 << 20);
  std::vector<cuda::SequenceMeta> metas;
  for (int s = 0; s < n_sequences; ++s) metas.push_back({s, 1, n_tokens - 1, s * layers.pages_a_sequence});
  const DeviceArray<cuda::SequenceMeta> meta(metas);
  const std::size_t n = std::size_t(n_sequences) * model.n_heads * model.head_dim;
  const DeviceArray<float> q(normal(n, 3)), out(n);
  const DeviceArray<std::byte> workspace(cuda::attend_workspace_bytes(
      model.n_heads, model.head_dim, n_sequences, std::max(n_tokens, bound), model.n_kv_heads));
  const int launches = std::max(layers.n_layers, 16);
  const double us = time_graph(stream,
                               [&] {
                                 for (int i = 0; i < launches; ++i) {
                                   cuda::AttendArgs args = layers.args(i % layers.n_layers, model.n_heads);
                                   args.q = q.data();
                                   args.out = out.data();
                                   args.sequences = meta.data();
                                   args.n_rows = n_sequences;
                                   args.workspace = workspace.data();
                                   args.max_tokens = std::max(n_tokens, bound);
                                   cuda::attend_decode(args, stream);
                                 }
                               }) /
                    launches;
  const double gbs = static_cast<double>(layers.layer_bytes) / us / 1e3;
  const char* names[] = {"bf16", "f32", "q8", "q4"};
  std::printf("decode  %-13s %-4s %3d x %6d: %8.1f us %7.0f GB/s %4.0f %% of reads%s\n", model.name,
              names[static_cast<int>(element)], n_sequences, n_tokens, us, gbs, 100 * gbs / peak,
              bound > n_tokens ? ", in a grid for 131072" : "");
}

/// One token that reads a choice, as under --kv cga: the first unit, `budget` tokens of residents, and a
/// window of 1,024 tokens and half a page.
void bench_units(cudaStream_t stream, double peak, const Model& model, int budget, int n_sequences) {
  constexpr int window = 1024 + page_tokens / 2;
  const Layers layers({model.n_kv_heads, model.head_dim, KvElement::bf16}, window + page_tokens, n_sequences,
                      400 << 20);
  const KvLayout i8{model.n_kv_heads, model.head_dim, KvElement::i8};
  const int resident_pages = 4 * budget / page_tokens;  // of a sequence: four times the budget
  const std::int64_t codes = n_sequences * resident_pages * i8.page_bytes(),
                     scales = n_sequences * resident_pages * i8.page_scale_bytes();
  const DeviceArray<std::byte> code_memory(layers.n_layers * codes, 0x11),
      scale_memory(layers.n_layers * scales, 0x3c);  // 0.0115
  std::vector<std::int32_t> ids;
  std::vector<cuda::SequenceMeta> metas;
  int n_tokens = 0;
  for (int s = 0; s < n_sequences; ++s) {
    const auto first = static_cast<int>(ids.size());
    const int page = s * layers.pages_a_sequence;
    ids.insert(ids.end(), {page_units * page, no_unit, no_unit, no_unit});
    for (int i = 0; i < budget / unit_tokens; ++i) {
      const int n = page_units * resident_pages;
      ids.push_back(resident_unit(s * n + (i * 7919 + 13) % n));
    }
    for (int u = 0; u < window / unit_tokens; ++u) ids.push_back(page_units * (page + 1) + u);
    n_tokens = (static_cast<int>(ids.size()) - first) * unit_tokens;
    metas.push_back({s, 1, n_tokens - 1, first});
  }
  const DeviceArray<std::int32_t> units(ids);
  const DeviceArray<cuda::SequenceMeta> meta(metas);
  const std::size_t n = std::size_t(n_sequences) * model.n_heads * model.head_dim;
  const DeviceArray<float> q(normal(n, 3)), out(n);
  const DeviceArray<std::byte> workspace(
      cuda::attend_workspace_bytes(model.n_heads, model.head_dim, n_sequences, n_tokens, model.n_kv_heads));
  const int launches = std::max(layers.n_layers, 16);
  const auto work = [&] {
    for (int i = 0; i < launches; ++i) {
      const int layer = i % layers.n_layers;
      cuda::AttendArgs args = layers.args(layer, model.n_heads);
      args.q = q.data();
      args.out = out.data();
      args.sequences = meta.data();
      args.pages = units.data();
      args.units = true;
      args.n_rows = n_sequences;
      args.workspace = workspace.data();
      args.max_tokens = n_tokens;
      args.residents = {code_memory.data() + layer * codes, scale_memory.data() + layer * scales, i8};
      cuda::attend_decode(args, stream);
    }
  };
  const double us = time_graph(stream, work) / launches;
  const double read = n_sequences * model.n_kv_heads *
                      (budget * (2.0 * model.head_dim + 4) + (unit_tokens + window) * 4.0 * model.head_dim);
  std::printf("units   %-13s i8   %3d x %6d: %8.1f us %7.0f GB/s %4.0f %% of reads\n", model.name,
              n_sequences, budget, us, read / us / 1e3, 100 * read / us / 1e3 / peak);
}

/// n_rows rows that end at n_tokens.
void bench_prefill(cudaStream_t stream, const Model& model, KvElement element, int n_tokens, int n_rows) {
  const Layers layers({model.n_kv_heads, model.head_dim, element}, n_tokens, 1, 0);
  const DeviceArray<cuda::SequenceMeta> meta(
      std::vector<cuda::SequenceMeta>{{0, n_rows, n_tokens - n_rows, 0}});
  const std::size_t n = std::size_t(n_rows) * model.n_heads * model.head_dim;
  const DeviceArray<float> some(normal(1 << 20, 3)), q(n), out(n);
  for (std::size_t at = 0; at < n; at += some.size()) {
    check(cudaMemcpy(q.data() + at, some.data(), std::min(n - at, some.size()) * 4, cudaMemcpyDeviceToDevice),
          "q");
  }
  cuda::AttendArgs args = layers.args(0, model.n_heads);
  args.q = q.data();
  args.out = out.data();
  args.sequences = meta.data();
  args.n_rows = n_rows;
  const double us = time_graph(stream, [&] { cuda::attend_prefill(args, stream); });
  const double pairs = 0.5 * n_rows * (2.0 * n_tokens - n_rows);  // (query, key)
  const char* names[] = {"bf16", "f32", "q8", "q4"};
  std::printf("prefill %-13s %-4s %6d rows of %6d: %9.1f us %6.1f TFLOP/s\n", model.name,
              names[static_cast<int>(element)], n_rows, n_tokens, us,
              4 * pairs * model.n_heads * model.head_dim / us / 1e6);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "all";
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "device");
  cudaStream_t stream;
  check(cudaStreamCreate(&stream), "stream");
  const double peak = read_bandwidth(stream);
  std::printf("%s, %d multiprocessors, reads %.0f GB/s\n", device.name, device.multiProcessorCount, peak);
  if (what == "units" || what == "all") {
    for (const Model& model : models) {
      for (const int budget : {1024, 2048}) {
        for (const int n_sequences : {1, 16}) bench_units(stream, peak, model, budget, n_sequences);
      }
    }
  }
  if (what == "decode" || what == "all") {
    for (const Model& model : models) {
      for (const int n : {512, 2048, 4096, 8192, 16384, 32768, 131072})
        bench_decode(stream, peak, model, KvElement::bf16, n, 1);
      for (const KvElement e : {KvElement::q8, KvElement::q4}) {
        for (const int n : {8192, 32768, 131072}) bench_decode(stream, peak, model, e, n, 1);
      }
      bench_decode(stream, peak, model, KvElement::bf16, 2048, 1, 131072);
      bench_decode(stream, peak, model, KvElement::bf16, 512, 64);
      bench_decode(stream, peak, model, KvElement::bf16, 4096, 16);
    }
  }
  if (what == "prefill" || what == "all") {
    for (const Model& model : models) {
      for (const int n : {2048, 8192, 32768}) bench_prefill(stream, model, KvElement::bf16, n, n);
      for (const KvElement e : {KvElement::q8, KvElement::q4}) bench_prefill(stream, model, e, 8192, 8192);
      bench_prefill(stream, model, KvElement::bf16, 32768, 512);
    }
    bench_prefill(stream, models[0], KvElement::bf16, 131072, 131072);
  }
  cudaStreamDestroy(stream);
}
