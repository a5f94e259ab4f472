// Times matrix products on a GPU against its memory: µs, GB/s of weights read, and the share of the bandwidth
// that reading memory reaches in the same process.
// Build, after configuring any CMake preset (for the generated list of types):
//   nvcc -std=c++20 -O2 -arch=native --expt-relaxed-constexpr -I. -Isrc -Iinclude -Itests
//   bench/cuda/bench_matmul_cuda.cu kernels/cuda/matmul/*.c* kernels/cuda/matmul/instantiations/*.cu
//   kernels/cuda/runtime/check.cpp src/base/error.cpp src/quant/*.cpp src/quant/*/*.cpp
//   build/dev/generated/weight_types.cpp -lcublasLt -o bench_matmul_cuda
// Usage: bench_matmul_cuda [decode] [type…]; without types, Q4_0; "all" for every type.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string_view>

#include "cuda/device_matrix.h"
#include "kernels/cuda/matmul/matmul.h"
#include "timing_cuda.cuh"

namespace {

using namespace cga;
using cuda::check;
using cuda::Epilogue;
using cuda::MatmulParams;
using test::DeviceVector;

/// What one call multiplies by: targets of equal cols.
struct Call {
  const char* model;
  const char* name;
  std::vector<std::int64_t> rows;
  std::int64_t cols;
  Epilogue epilogue = Epilogue::store;
  bool norm = false;
};

const std::vector<Call> calls = {
    {"8B", "qkv", {4096, 1024, 1024}, 4096, Epilogue::store, true},
    {"8B", "o", {4096}, 4096, Epilogue::add},
    {"8B", "gate+up", {14336, 14336}, 4096, Epilogue::swiglu, true},
    {"8B", "down", {4096}, 14336, Epilogue::add},
    {"8B", "head", {128256}, 4096, Epilogue::store, true},
    {"1.5B", "qkv", {1536, 256, 256}, 1536, Epilogue::store, true},
    {"1.5B", "o", {1536}, 1536, Epilogue::add},
    {"1.5B", "gate+up", {8960, 8960}, 1536, Epilogue::swiglu, true},
    {"1.5B", "down", {1536}, 8960, Epilogue::add},
    {"135M", "qkv", {576, 192, 192}, 576, Epilogue::store, true},
    {"135M", "gate+up", {1536, 1536}, 576, Epilogue::swiglu, true},
    {"135M", "down", {576}, 1536, Epilogue::add},
};

struct Device {
  test::PlainAllocator allocator;
  cudaStream_t stream = nullptr;
  cublasLtHandle_t handle = nullptr;
  std::unique_ptr<cuda::GemmPlans> plans;
  std::unique_ptr<DeviceVector<std::byte>> memory;
  cuda::Workspace workspace;
  double bandwidth = 0;  // bytes a second, read

  Device() {
    check(cudaStreamCreate(&stream), "cudaStreamCreate");
    check(cublasLtCreate(&handle), "cublasLtCreate");
    plans = std::make_unique<cuda::GemmPlans>(handle);
    std::size_t bytes = 0;
    for (const Call& call : calls) {
      bytes = std::max(bytes,
                       cuda::matmul_workspace_bytes(2048, call.cols, *std::ranges::max_element(call.rows)));
    }
    memory = std::make_unique<DeviceVector<std::byte>>(allocator, bytes);
    workspace = {memory->data(), bytes};
  }
};

/// Median seconds of one of the `n` calls that `enqueue` puts on the stream, replayed as a graph.
template <class Enqueue>
double time_calls(Device& device, int n, const Enqueue& enqueue) {
  return test::median_graph(device.stream, enqueue) * 1e-6 / n;
}

void measure_memory(Device& device) {
  const std::size_t bytes = std::size_t{1} << 30;
  DeviceVector<std::byte> from(device.allocator, bytes), to(device.allocator, bytes);
  check(cudaMemset(from.data(), 0, bytes), "clear");
  const double copy = time_calls(device, 1, [&] {
    check(cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, device.stream), "copy");
  });
  device.bandwidth = test::read_bandwidth(device.stream) * 1e9;
  std::printf("copy: %.0f GB/s read and written; read: %.0f GB/s\n", 2e-9 * static_cast<double>(bytes) / copy,
              device.bandwidth * 1e-9);
}

/// Copies of a call's weights, so many that the cache does not hold them from one use to the next.
struct Weights {
  std::vector<std::vector<std::unique_ptr<PreparedWeight>>> copies;
  double bytes = 0;  // of one copy
};

Weights make_weights(Device& device, const Call& call, const WeightType& type) {
  std::mt19937 random(1);
  std::int64_t file_bytes = 0;
  for (const std::int64_t rows : call.rows) file_bytes += rows * type.row_bytes(call.cols);
  const auto n = static_cast<std::size_t>(std::clamp<std::int64_t>((200 << 20) / file_bytes + 1, 2, 64));
  // One random stretch serves all matrices: what is in them does not change the time.
  const std::int64_t largest = *std::ranges::max_element(call.rows);
  const test::HostMatrix seed = test::random_blocks(type, 16, call.cols, 0.01f, random);
  test::HostMatrix matrix(type, largest, call.cols);
  for (std::int64_t r = 0; r < largest; ++r) {
    std::memcpy(matrix.bytes.data() + r * seed.view.row_bytes(), seed.view.row(r % 16),
                static_cast<std::size_t>(seed.view.row_bytes()));
  }
  Weights weights;
  for (std::size_t i = 0; i < n; ++i) {
    auto& copy = weights.copies.emplace_back();
    for (const std::int64_t rows : call.rows) {
      WeightView view = matrix.view;
      view.rows = rows;
      copy.push_back(cuda::prepare_weight(device.allocator, device.stream, view));
    }
  }
  for (const auto& weight : weights.copies[0]) weights.bytes += static_cast<double>(weight->bytes);
  return weights;
}

template <class Multiply>
double time_call(Device& device, const Call& call, const Weights& weights, std::int64_t n_tokens,
                 const Multiply& multiply, int n_calls) {
  const DeviceVector<float> x(device.allocator,
                              std::vector<float>(static_cast<std::size_t>(n_tokens * call.cols), 0.5f));
  const DeviceVector<float> norm(device.allocator,
                                 std::vector<float>(static_cast<std::size_t>(call.cols), 1.0f));
  std::int64_t all_rows = 0;
  for (const std::int64_t rows : call.rows) all_rows += rows;
  const DeviceVector<float> out(device.allocator,
                                std::vector<float>(static_cast<std::size_t>(n_tokens * all_rows)));
  return time_calls(device, n_calls, [&] {
    for (int i = 0; i < n_calls; ++i) {
      std::vector<MatmulTarget> targets;
      float* at = out.data();
      for (const auto& weight : weights.copies[i % weights.copies.size()]) {
        targets.push_back({weight.get(), nullptr, at});
        at += n_tokens * weight->rows;
      }
      multiply(
          MatmulParams{x.data(), n_tokens, call.norm ? norm.data() : nullptr, 1e-5f, targets, call.epilogue});
    }
  });
}

void bench_call(Device& device, const Call& call, const WeightType& type, bool with_prefill) {
  const Weights weights = make_weights(device, call, type);
  std::printf("%-5s %-4s %-8s %6.1f MB ", std::string(type.name).c_str(), call.model, call.name,
              weights.bytes * 1e-6);
  const auto decode = [&](const MatmulParams& params) {
    cuda::matmul_decode(params, device.stream, device.workspace);
  };
  for (const std::int64_t n : {1, 2, 4, 8, 16, 32, 64}) {
    const int n_calls = std::max<int>(64, static_cast<int>(weights.copies.size()));
    const double seconds = time_call(device, call, weights, n, decode, n_calls);
    const double rate = weights.bytes / seconds;
    std::printf("| %2d: %7.2f us %5.0f GB/s %3.0f %% ", static_cast<int>(n), seconds * 1e6, rate * 1e-9,
                100 * rate / device.bandwidth);
  }
  const auto prefill = [&](const MatmulParams& params) {
    cuda::matmul_prefill(params, device.stream, *device.plans, device.workspace);
  };
  double values = 0;
  for (const std::int64_t rows : call.rows) values += static_cast<double>(rows * call.cols);
  for (const std::int64_t n : {64, 512, 2048}) {
    if (!with_prefill || call.rows[0] > 100000) continue;
    const double seconds = time_call(device, call, weights, n, prefill, 4);
    std::printf("| prefill %d: %.0f us, %.0f TFLOP/s ", static_cast<int>(n), seconds * 1e6,
                2 * values * static_cast<double>(n) / seconds * 1e-12);
  }
  std::printf("\n");
}

/// How long it takes to load a matrix.
void bench_prepare(Device& device, const WeightType& type) {
  std::mt19937 random(1);
  const test::HostMatrix matrix = test::random_blocks(type, 4096, 14336, 0.01f, random);
  for (int i = 0; i < 2; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto weight = cuda::prepare_weight(device.allocator, device.stream, matrix.view);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (i == 1)
      std::printf("%-5s prepare: %.1f ms, %.1f GB/s\n", std::string(type.name).c_str(), seconds * 1e3,
                  static_cast<double>(matrix.view.bytes()) / seconds * 1e-9);
  }
}

}  // namespace

int main(int argc, char** argv) {
  Device device;
  measure_memory(device);
  std::vector<const WeightType*> types;
  bool with_prefill = true;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "decode") with_prefill = false;
    if (std::string_view(argv[i]) == "all")
      types = weight_types();
    else if (const WeightType* type = find_weight_type(argv[i]))
      types.push_back(type);
  }
  if (types.empty()) types.push_back(find_weight_type("Q4_0"));
  for (const WeightType* type : types) {
    if (type->name == "F32") continue;
    bench_prepare(device, *type);
    for (const Call& call : calls) bench_call(device, call, *type, with_prefill);
  }
}
