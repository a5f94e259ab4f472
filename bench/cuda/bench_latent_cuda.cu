// Time of the latent codec on the CUDA backend, against its floor: the bytes of the basis at the bandwidth of
// plain reads, or the products at the rate of a loop of mma.sync that does nothing else, whichever takes
// longer. Both rates are measured in the same process. Calls rotate over copies of a transform, so that none
// is left in L2. From the repository's root:
//   nvcc -std=c++20 --expt-relaxed-constexpr -O3 -arch=native -I. -Isrc -Iinclude -Itests
//     bench/cuda/bench_latent_cuda.cu kernels/cuda/latent/*.cu kernels/cuda/latent/prepare.cpp
//     kernels/cuda/runtime/check.cpp src/base/error.cpp -lcublasLt -o bench_latent_cuda
//   ./bench_latent_cuda [decode|encode|pages]
#include <algorithm>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/half.h"
#include "cuda/device_array.h"
#include "cuda/device_matrix.h"
#include "kernels/cuda/latent/latent.h"
#include "kernels/cuda/latent/operand.cuh"
#include "kernels/cuda/runtime/check.h"
#include "timing_cuda.cuh"

using namespace cga;
using namespace cga::test;
using cuda::check;

namespace {

/// One layer group.
struct Model {
  const char* name;
  std::int32_t n_layers, n_kv_heads, head_dim;
  std::int64_t m, w;
  RopePairs pairs;

  std::int64_t kv_dim() const { return std::int64_t{n_kv_heads} * head_dim; }
  std::int64_t n() const { return 2 * n_layers * kv_dim(); }
};
constexpr Model models[] = {{"SmolLM2-135M", 10, 3, 64, 2304, 128, RopePairs::interleaved},
                            {"Qwen2.5-1.5B", 7, 2, 128, 2176, 128, RopePairs::halves},
                            {"Llama-3-8B", 4, 8, 128, 4864, 128, RopePairs::interleaved}};

struct Rates {
  double bytes = 0, products = 0;  // a second
};

constexpr int mma_rounds = 4096, mma_chains = 8;

__global__ void mma_kernel(float* out) {
  float sums[mma_chains][4] = {};
  std::uint32_t a[4] = {threadIdx.x, 1, 2, 3};
  for (int i = 0; i < mma_rounds; ++i) {
#pragma unroll
    for (int c = 0; c < mma_chains; ++c) cuda::mma<__half>(sums[c], a, threadIdx.x + c, i);
  }
  float sum = 0;
  for (int c = 0; c < mma_chains; ++c) sum += sums[c][0];
  if (sum == 1.0f) *out = sum;
}

Rates measure_rates(cudaStream_t stream, int multiprocessors) {
  const DeviceArray<float> out(1);
  const int ctas = multiprocessors * 4;
  const double multiply = time_graph(stream, [&] { mma_kernel<<<ctas, 256, 0, stream>>>(out.data()); });
  return {read_bandwidth(stream) * 1e9, 2048.0 * mma_rounds * mma_chains * 8 * ctas / multiply * 1e6};
}

/// A made-up transform with widths as about 1.7 bits a value gives them: 8 bits while the basis is wide, then
/// 4, 2 and 1.
struct Transform {
  explicit Transform(const Model& model) {
    std::mt19937 random(1);
    const std::int64_t n = model.n(), m = model.m, w = model.w;
    for (std::int64_t i = 0; i < w * n; ++i) {
      wide.push_back(f32_to_f16(static_cast<float>(static_cast<int>(random() % 255) - 127) / 4096));
    }
    for (std::int64_t i = 0; i < (m - w) * n; ++i)
      narrow.push_back(static_cast<std::int8_t>(random() % 255 - 127));
    scales.assign(static_cast<std::size_t>((m - w) * n / 128), f32_to_f16(1.0f / 4096));
    mean.assign(static_cast<std::size_t>(n), 0.5f);
    scale.assign(static_cast<std::size_t>(n), 2.0f);
    for (std::int64_t i = 0; i < m; ++i) variance.push_back(1e4f / static_cast<float>(i + 1));
    for (std::int64_t block = 0; block < m / 64; ++block) {
      const std::int64_t of = m / 64;
      bits.push_back(block < w / 64 ? 8 : block < of / 8 ? 4 : block < of / 2 ? 2 : 1);
    }
    view = {n,
            m,
            w,
            mean.data(),
            scale.data(),
            variance.data(),
            wide.data(),
            narrow.data(),
            scales.data(),
            codebook,
            codebook,
            codebook};
  }

  std::vector<float> mean, scale, variance;
  std::vector<std::uint16_t> wide, scales;
  std::vector<std::int8_t> narrow;
  std::vector<std::uint8_t> bits;
  float codebook[16] = {-2.7f, -2.07f, -1.62f, -1.26f, -0.94f, -0.66f, -0.39f, -0.13f,
                        0.13f, 0.39f,  0.66f,  0.94f,  1.26f,  1.62f,  2.07f,  2.7f};
  LatentView view;
};

/// Copies of a transform on the device, and a pool of coded pages.
struct Group {
  explicit Group(const Model& of)
      : model(of),
        transform(of),
        layout(transform.bits),
        coded(static_cast<std::size_t>(n_pages * layout.page_bytes()), 0x35),
        x(static_cast<std::size_t>(n_pages * page_tokens * of.n())),
        blocks(cuda::coded_blocks(layout)),
        scratch(static_cast<std::size_t>(cuda::encode_scratch_bytes(of.n()))) {
    const std::int64_t bytes = cuda::prepared_latent_bytes(transform.view);
    for (std::int64_t i = 0; i < (std::int64_t{200} << 20) / bytes + 1; ++i) {
      latents.push_back(cuda::prepare_latent(allocator, nullptr, transform.view));
    }
  }

  static constexpr std::int64_t n_pages = 16;
  const cuda::LatentData& latent(std::size_t i) const {
    return cuda::cuda_latent(latents[i % latents.size()].get()).data;
  }

  Model model;
  Transform transform;
  LatentLayout layout;
  PlainAllocator allocator;
  std::vector<std::unique_ptr<PreparedLatent>> latents;
  DeviceArray<std::byte> coded;
  DeviceArray<float> x;
  DeviceArray<cuda::CodedBlock> blocks;
  DeviceArray<std::byte> scratch;
};

std::vector<std::int32_t> ids(std::int64_t n, std::int64_t of) {
  std::vector<std::int32_t> result;
  for (std::int64_t i = 0; i < n; ++i) result.push_back(static_cast<std::int32_t>(i * 7 % of));
  return result;
}

/// @param products  multiply-adds of the tensor cores: in coding two for each of the result, for two f16
void report(const char* what, const Model& model, const std::string& of, double us, double bytes,
            double products, const Rates& rates) {
  const double by_bytes = bytes / rates.bytes * 1e6, by_products = products / rates.products * 1e6;
  const double floor = std::max(by_bytes, by_products);
  std::printf("%s %-13s %-24s %8.1f us %7.0f GB/s %6.1f TFLOP/s  floor %7.1f us (%s), %3.0f %%\n", what,
              model.name, of.c_str(), us, bytes / us / 1e3, 2 * products / us / 1e6, floor,
              by_bytes > by_products ? "bytes" : "products", 100 * floor / us);
}

void bench_decode(cudaStream_t stream, const Group& group, std::int32_t n_layers, std::int32_t n_units,
                  const Rates& rates) {
  const Model& model = group.model;
  const std::int64_t width = n_layers * model.kv_dim();
  const std::vector<ChannelRange> ranges{{0, width}, {model.n() / 2, width}};
  const cuda::DecodeShape shape = cuda::choose_decode_shape(2 * width, n_units);
  const std::vector<cuda::Piece> cut = cuda::cut_channels(ranges, shape.channels());
  const DeviceArray<cuda::Piece> pieces(cut);
  const DeviceArray<std::int32_t> units(ids(n_units, 4 * Group::n_pages));
  const std::size_t launches = std::max<std::size_t>(group.latents.size(), 8);
  const double us =
      time_graph(stream,
                 [&] {
                   for (std::size_t i = 0; i < launches; ++i) {
                     cuda::decode_units({.latent = group.latent(i),
                                         .blocks = group.blocks.data(),
                                         .n_blocks = static_cast<std::int32_t>(group.blocks.size()),
                                         .coded = group.coded.data(),
                                         .unit_bytes = group.layout.unit_bytes(),
                                         .units = units.data(),
                                         .n_units = n_units,
                                         .pieces = pieces.data(),
                                         .n_pieces = static_cast<std::int32_t>(cut.size()),
                                         .shape = shape,
                                         .out = group.x.data(),
                                         .row = 2 * width},
                                        stream);
                   }
                 }) /
      static_cast<double>(launches);
  const double bytes = static_cast<double>(2 * width * (model.m + model.w) +
                                           n_units * (group.layout.unit_bytes() + 4 * 16 * 2 * width));
  const double products = 16.0 * n_units * static_cast<double>(2 * width * model.m);
  report("decode", model, std::to_string(n_layers) + " layers, " + std::to_string(n_units) + " units", us,
         bytes, products, rates);
}

void bench_encode(cudaStream_t stream, const Group& group, std::int32_t n_pages, const Rates& rates) {
  const Model& model = group.model;
  const ChannelRange all{0, model.n()};
  const DeviceArray<cuda::Piece> pieces(cuda::cut_channels({&all, 1}, 64));
  std::vector<std::int32_t> list(static_cast<std::size_t>(n_pages) * 4);
  for (std::size_t i = 0; i < list.size(); ++i) list[i] = static_cast<std::int32_t>(i);
  const DeviceArray<std::int32_t> units(list);
  const std::size_t launches = std::max<std::size_t>(group.latents.size(), 8);
  const double us =
      time_graph(stream,
                 [&] {
                   for (std::size_t i = 0; i < launches; ++i) {
                     cuda::encode_pages({.latent = group.latent(i),
                                         .blocks = group.blocks.data(),
                                         .n_blocks = static_cast<std::int32_t>(group.blocks.size()),
                                         .n_wide = static_cast<std::int32_t>(model.w / 64),
                                         .x = group.x.data(),
                                         .coded = group.coded.data(),
                                         .unit_bytes = group.layout.unit_bytes(),
                                         .units = units.data(),
                                         .n_units = 4 * n_pages,
                                         .pieces = pieces.data(),
                                         .scratch = group.scratch.data()},
                                        stream);
                   }
                 }) /
      static_cast<double>(launches);
  const double rows = 64.0 * n_pages, n = static_cast<double>(model.n());
  const double bytes = n * static_cast<double>(model.m + model.w) + rows * n * 4;
  report("encode", model, std::to_string(n_pages) + " pages", us, bytes,
         2 * rows * n * static_cast<double>(model.m + model.w), rates);
}

/// Pages of all layers of a group to rows and back.
void bench_pages(cudaStream_t stream, const Group& group, KvElement element, std::int32_t n_pages,
                 const Rates& rates) {
  const Model& model = group.model;
  const KvLayout layout{model.n_kv_heads, model.head_dim, element};
  constexpr std::int32_t pool = 64;
  const DeviceArray<std::byte> pages(static_cast<std::size_t>(model.n_layers * pool * layout.page_bytes())),
      scales(static_cast<std::size_t>(model.n_layers * pool * layout.page_scale_bytes()) + 16);
  std::vector<std::byte*> base_list, scale_list;
  for (std::int64_t l = 0; l < model.n_layers; ++l) {
    base_list.push_back(pages.data() + l * pool * layout.page_bytes());
    scale_list.push_back(scales.data() + l * pool * layout.page_scale_bytes());
  }
  const DeviceArray<std::byte*> bases(base_list), scale_bases(scale_list);
  const DeviceArray<std::int32_t> page_ids(ids(n_pages, pool)), unit_ids(ids(4 * n_pages, 4 * pool));
  const DeviceArray<float> cos_sin(static_cast<std::size_t>(4 * n_pages * model.head_dim));
  cuda::FrameArgs args{.bases = bases.data(),
                       .scales = scale_bases.data(),
                       .n_layers = model.n_layers,
                       .layout = layout,
                       .pairs = model.pairs,
                       .ids = page_ids.data(),
                       .n = n_pages,
                       .cos_sin = cos_sin.data()};
  const double values = 64.0 * n_pages * static_cast<double>(model.n());
  const double bytes = values * (4 + static_cast<double>(layout.vector_bytes()) / model.head_dim);
  constexpr int launches = 8;
  const auto time = [&](const char* what, const auto& call) {
    const double us = time_graph(stream,
                                 [&] {
                                   for (int i = 0; i < launches; ++i) call();
                                 }) /
                      launches;
    report(what, model,
           std::to_string(n_pages) + " pages, element " + std::to_string(static_cast<int>(element)), us,
           bytes, 0, rates);
  };
  if (element != KvElement::i8) time("gather", [&] { cuda::gather_pages(args, group.x.data(), stream); });
  args.ids = unit_ids.data();
  args.n = 4 * n_pages;
  time("scatter", [&] { cuda::scatter_units(args, group.x.data(), stream); });
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "all";
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0), "device");
  cudaStream_t stream;
  check(cudaStreamCreate(&stream), "stream");
  const Rates rates = measure_rates(stream, device.multiProcessorCount);
  std::printf("%s, reads %.0f GB/s, mma.sync %.0f TFLOP/s\n", device.name, rates.bytes / 1e9,
              2 * rates.products / 1e12);
  for (const Model& model : models) {
    const Group group(model);
    if (what == "all" || what == "decode") {
      for (const std::int32_t n_layers : {1, 4, model.n_layers}) {
        for (const std::int32_t n_units : {1, 4, 16, 64}) {
          bench_decode(stream, group, n_layers, n_units, rates);
        }
        if (n_layers == model.n_layers) break;
      }
    }
    if (what == "all" || what == "encode") {
      for (const std::int32_t n_pages : {1, 4, 16}) bench_encode(stream, group, n_pages, rates);
    }
    if (what == "all" || what == "pages") {
      for (const KvElement element : {KvElement::bf16, KvElement::i8}) {
        for (const std::int32_t n_pages : {1, 4, 16}) bench_pages(stream, group, element, n_pages, rates);
      }
    }
  }
  cudaStreamDestroy(stream);
}
