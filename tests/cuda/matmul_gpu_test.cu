// Matrix products on a GPU against products in double precision on the host: all types, shapes that leave
// remainders, epilogues, extremes, and bits that must not depend on company.
// Build, after configuring any CMake preset (for the generated list of types):
//   nvcc -std=c++20 -O2 -arch=native --expt-relaxed-constexpr -I. -Isrc -Iinclude -Itests
//   tests/cuda/matmul_gpu_test.cu kernels/cuda/matmul/*.c* kernels/cuda/matmul/instantiations/*.cu
//   kernels/cuda/runtime/check.cpp src/base/error.cpp src/quant/*.cpp src/quant/*/*.cpp
//   build/dev/generated/weight_types.cpp -lcublasLt -o matmul_gpu_test
// Usage: matmul_gpu_test [small] [own] [type…]; without types, all of them; small: no large matrices, for the
// tools that make everything slow; own: no kernels of cuBLAS's, in which racecheck sees races.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <numeric>
#include <string_view>

#include "cuda/device_matrix.h"
#include "cuda/matmul_oracle.h"
#include "cuda/no_device.h"
#include "kernels/cuda/matmul/matmul.h"

namespace {

using namespace cga;
using cga::cuda::Epilogue;
using cga::cuda::MatmulParams;
using test::DeviceVector;
using test::Expected;
using test::host_norm;
using test::host_product;
using test::HostMatrix;
using test::worst_error;
using Floats = std::vector<float>;

/// Everything a case needs from the device.
struct Device {
  test::PlainAllocator allocator;
  cudaStream_t stream = nullptr;
  cublasLtHandle_t handle = nullptr;
  std::unique_ptr<cuda::GemmPlans> plans;
  std::unique_ptr<DeviceVector<std::byte>> memory;
  cuda::Workspace workspace;
  bool small = false, own = false;

  Device() {
    cuda::check(cudaStreamCreate(&stream), "cudaStreamCreate");
    cuda::check(cublasLtCreate(&handle), "cublasLtCreate");
    plans = std::make_unique<cuda::GemmPlans>(handle);
    const std::size_t bytes = std::max(cuda::matmul_workspace_bytes(2048, 14336, 4096),
                                       cuda::matmul_workspace_bytes(2048, 4096, 14336));
    memory = std::make_unique<DeviceVector<std::byte>>(allocator, bytes);
    // Poison: what a launch leaves of tokens that are not there must not matter.
    cuda::check(cudaMemset(memory->data(), 0xff, bytes), "workspace");
    workspace = {memory->data(), bytes};
  }
};

int failures = 0, checks = 0;

void expect(bool condition, const std::string& what) {
  ++checks;
  if (condition) return;
  if (++failures <= 40) std::printf("FAILED %s\n", what.c_str());
}

Floats random_floats(std::int64_t n, std::mt19937& random, float magnitude = 1.0f) {
  std::normal_distribution<float> normal(0.0f, magnitude);
  Floats values(static_cast<std::size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

bool same_bits(const float* a, const float* b, std::int64_t n) {
  return std::memcmp(a, b, static_cast<std::size_t>(n) * 4) == 0;
}

enum class Path { decode, prefill, exact };

void multiply(Device& device, Path path, const MatmulParams& params) {
  if (path == Path::decode) cuda::matmul_decode(params, device.stream, device.workspace);
  if (path == Path::prefill) cuda::matmul_prefill(params, device.stream, *device.plans, device.workspace);
  if (path == Path::exact) cuda::matmul_exact(params, device.stream, device.workspace);
}

/// One product of tokens [first, first + n) of x, into poisoned memory with a guard behind.
Floats run(Device& device, Path path, const PreparedWeight& weight, const DeviceVector<float>& x,
           std::int64_t first, std::int64_t n) {
  const Floats poison(static_cast<std::size_t>(n * weight.rows + 64), std::nanf(""));
  const DeviceVector<float> out(device.allocator, poison);
  const MatmulTarget target{&weight, nullptr, out.data()};
  MatmulParams params;
  params.x = x.data() + first * weight.cols;
  params.n_tokens = n;
  params.targets = {&target, 1};
  multiply(device, path, params);
  Floats result = out.get();
  for (std::size_t i = static_cast<std::size_t>(n * weight.rows); i < result.size(); ++i) {
    expect(std::isnan(result[i]), "a write beyond the output");
  }
  result.resize(static_cast<std::size_t>(n * weight.rows));
  return result;
}

/// Whether decoding multiplies integers.
bool has_integer_products(const WeightType& type) {
  return type.integer.group == 32 && (type.integer.bits == 4 || type.integer.bits == 8);
}

double tolerance(const WeightType& type, Path path, std::int64_t cols) {
  if (path == Path::exact) return 1e-5;
  if (path == Path::prefill) return 1e-3;
  if (type.integer.bits == 0) return 2e-5;
  // Scales of K types are rounded to f16; of the others only activations are, to 16 bits in groups of 32.
  // In the row's only group an outlier, here 100 times the rest, leaves the others 9 of them: 6e-4.
  return has_integer_products(type) && type.block_values == 32 && cols > 32 ? 3e-4 : 1e-3;
}

std::unique_ptr<PreparedWeight> prepare(Device& device, Path path, const WeightView& view) {
  return path == Path::exact ? cuda::prepare_table(device.allocator, device.stream, view)
                             : cuda::prepare_weight(device.allocator, device.stream, view);
}

std::string name_of(const WeightType& type, std::int64_t rows, std::int64_t cols) {
  return std::string(type.name) + " " + std::to_string(rows) + " x " + std::to_string(cols);
}

struct Shape {
  std::int64_t rows, cols;
};

std::vector<Shape> shapes_for(const WeightType& type) {
  const std::int64_t least = type.integer.bits == 0 ? 61 : type.block_values;
  const std::int64_t odd = type.integer.bits == 0 ? 577 : type.block_values == 32 ? 544 : 768;
  return {{1, least}, {15, least}, {16, odd},    {17, 1536},  {576, odd},
          {33, 8960}, {48, 14336}, {4096, 4096}, {24000, odd}};
}

void test_products(Device& device, Path path, const char* label, const WeightType& type,
                   const std::vector<std::int64_t>& counts) {
  std::mt19937 random(1);
  const std::int64_t most = counts.back();
  double worst = 0.0;
  for (const auto& [rows, cols] : shapes_for(type)) {
    if (device.small && rows * cols > 1 << 20) continue;
    if (path != Path::decode && rows * cols > 1 << 20 && (type.integer.bits == 0 || rows > 4096)) continue;
    const HostMatrix matrix = test::random_blocks(type, rows, cols, 0.01f, random);
    Floats x = random_floats(most * cols, random);
    for (std::size_t i = 7; i < x.size(); i += 501) x[i] *= 100.0f;
    const auto weight = prepare(device, path, matrix.view);
    const DeviceVector<float> device_x(device.allocator, x);
    const Floats all = run(device, path, *weight, device_x, 0, most);
    // The host is slow: of many tokens, the first and the last few are enough.
    const std::int64_t checked =
        rows * cols > 1 << 20 ? std::min<std::int64_t>(most, 9) : std::min<std::int64_t>(most, 32);
    const std::vector<double> x_checked(x.end() - checked * cols, x.end());
    const Expected expected = host_product(matrix.view, x_checked, checked);
    const double error = worst_error({all.end() - checked * rows, all.end()}, expected, rows);
    worst = std::max(worst, error);
    expect(error <= tolerance(type, path, cols),
           std::string(label) + " " + name_of(type, rows, cols) + ": error " + std::to_string(error));
    for (const std::int64_t n : counts) {
      const std::int64_t first = most - n;
      const Floats part = run(device, path, *weight, device_x, first, n);
      expect(same_bits(part.data(), all.data() + first * rows, n * rows),
             std::string(label) + " " + name_of(type, rows, cols) + ": bits with " + std::to_string(n) +
                 " tokens");
    }
  }
  std::printf("%-8s %-5s worst error %.2e\n", label, std::string(type.name).c_str(), worst);
}

/// q, k and v at once with norm and bias, then added to what is there.
void test_targets(Device& device, Path path, const char* label, const std::vector<const WeightType*>& types,
                  std::int64_t n_tokens, bool normalise) {
  std::mt19937 random(2);
  const std::int64_t cols = 1536, rows[3] = {272, 40, 17};
  const Floats x = random_floats(n_tokens * cols, random, 3.0f), norm = random_floats(cols, random);
  const DeviceVector<float> device_x(device.allocator, x), device_norm(device.allocator, norm);
  std::vector<HostMatrix> matrices;
  std::vector<std::unique_ptr<PreparedWeight>> weights;
  std::vector<DeviceVector<float>> biases, outs;
  std::vector<MatmulTarget> targets;
  std::vector<Floats> host_biases, before;
  for (int i = 0; i < 3; ++i) {
    matrices.push_back(test::random_blocks(*types[i], rows[i], cols, 0.01f, random));
    weights.push_back(prepare(device, path, matrices.back().view));
    host_biases.push_back(random_floats(rows[i], random));
    before.push_back(random_floats(n_tokens * rows[i], random));
    biases.emplace_back(device.allocator, host_biases.back());
    outs.emplace_back(device.allocator, before.back());
    targets.push_back({weights.back().get(), i == 1 ? nullptr : biases.back().data(), outs.back().data()});
  }
  const std::vector<double> input = host_norm(x, normalise ? &norm : nullptr, 1e-5, cols);
  for (const Epilogue epilogue : {Epilogue::add, Epilogue::store}) {
    MatmulParams params{device_x.data(), n_tokens, normalise ? device_norm.data() : nullptr,
                        1e-5f,           targets,  epilogue};
    multiply(device, path, params);
    for (int i = 0; i < 3; ++i) {
      Expected expected = host_product(matrices[i].view, input, n_tokens);
      for (std::size_t k = 0; k < expected.value.size(); ++k) {
        if (i != 1) expected.value[k] += host_biases[i][k % rows[i]];
        if (epilogue == Epilogue::add) expected.value[k] += before[i][k];
      }
      const double error = worst_error(outs[i].get(), expected, rows[i]);
      expect(error <= 1e-3, std::string(label) + " targets, " + std::to_string(n_tokens) +
                                " tokens, target " + std::to_string(i) +
                                (epilogue == Epilogue::add ? " added" : "") + ": error " +
                                std::to_string(error));
    }
  }
}

void test_swiglu(Device& device, Path path, const char* label, const WeightType& gate, const WeightType& up,
                 std::int64_t n_tokens) {
  std::mt19937 random(3);
  const std::int64_t cols = 768, rows = 1000;
  const Floats x = random_floats(n_tokens * cols, random), norm = random_floats(cols, random);
  const DeviceVector<float> device_x(device.allocator, x), device_norm(device.allocator, norm);
  const HostMatrix matrices[2] = {test::random_blocks(gate, rows, cols, 0.001f, random),
                                  test::random_blocks(up, rows, cols, 0.01f, random)};
  const auto g = prepare(device, path, matrices[0].view), u = prepare(device, path, matrices[1].view);
  const DeviceVector<float> out(device.allocator,
                                Floats(static_cast<std::size_t>(n_tokens * rows), std::nanf("")));
  const MatmulTarget targets[2] = {{g.get(), nullptr, out.data()}, {u.get(), nullptr, nullptr}};
  multiply(device, path, {device_x.data(), n_tokens, device_norm.data(), 1e-6f, targets, Epilogue::swiglu});
  const std::vector<double> input = host_norm(x, &norm, 1e-6, cols);
  const Expected a = host_product(matrices[0].view, input, n_tokens),
                 b = host_product(matrices[1].view, input, n_tokens);
  Expected expected = a;
  for (std::size_t i = 0; i < expected.value.size(); ++i) {
    const double sigmoid = 1.0 / (1.0 + std::exp(-a.value[i]));
    expected.value[i] = a.value[i] * sigmoid * b.value[i];
    expected.magnitude[i] = std::fabs(a.magnitude[i] * sigmoid * b.magnitude[i]);
  }
  const double error = worst_error(out.get(), expected, rows);
  expect(error <= 2e-3, std::string(label) + " swiglu " + std::string(gate.name) + ", " +
                            std::to_string(n_tokens) + " tokens: error " + std::to_string(error));
}

/// x, normalised, times a matrix, or through swiglu: results of tokens [first, first + n).
Floats run_normalised(Device& device, const PreparedWeight& weight, const DeviceVector<float>& x,
                      const DeviceVector<float>& norm, std::int64_t first, std::int64_t n,
                      Epilogue epilogue) {
  const DeviceVector<float> out(device.allocator,
                                Floats(static_cast<std::size_t>(n * weight.rows), std::nanf("")));
  const MatmulTarget targets[2] = {{&weight, nullptr, out.data()}, {&weight, nullptr, nullptr}};
  MatmulParams params{x.data() + first * weight.cols, n, norm.data(), 1e-5f, targets, epilogue};
  if (epilogue != Epilogue::swiglu) params.targets = {targets, 1};
  multiply(device, Path::decode, params);
  return out.get();
}

/// A token's bits are the same alone and in any company, where CTAs normalise as where a kernel before does.
void test_company(Device& device, const WeightType& type, std::int64_t rows, std::int64_t cols) {
  constexpr std::int64_t most = 32;
  std::mt19937 random(6);
  const HostMatrix matrix = test::random_blocks(type, rows, cols, 0.01f, random);
  const auto weight = prepare(device, Path::decode, matrix.view);
  const DeviceVector<float> x(device.allocator, random_floats(most * cols, random)),
      norm(device.allocator, random_floats(cols, random));
  for (const Epilogue epilogue : {Epilogue::store, Epilogue::swiglu}) {
    const Floats all = run_normalised(device, *weight, x, norm, 0, most, epilogue);
    expect(std::ranges::all_of(all, [](float v) { return std::isfinite(v); }), "company: finite results");
    for (std::int64_t n = 1; n < most; ++n) {
      for (const std::int64_t first : {std::int64_t{0}, most - n}) {
        const Floats part = run_normalised(device, *weight, x, norm, first, n, epilogue);
        expect(same_bits(part.data(), all.data() + first * rows, n * rows),
               "company " + name_of(type, rows, cols) + ": normalised, bits with " + std::to_string(n) +
                   " tokens from " + std::to_string(first));
      }
    }
  }
}

void test_extremes(Device& device, Path path, const WeightType& type) {
  std::mt19937 random(4);
  for (const float scale : {60000.0f / 64, 0x1p-24f, 0.01f}) {
    for (const float magnitude : {1e-28f, 1e4f, 1e20f}) {
      if (type.integer.bits == 0 && scale < 1e-3f) continue;
      const HostMatrix matrix = test::random_blocks(type, 70, 512, scale, random);
      Floats x = random_floats(3 * 512, random, magnitude);
      const auto weight = prepare(device, path, matrix.view);
      const DeviceVector<float> device_x(device.allocator, x);
      const Expected expected = host_product(matrix.view, {x.begin(), x.end()}, 3);
      const Floats clean = run(device, path, *weight, device_x, 0, 3);
      const double error = worst_error(clean, expected, 70);
      // What the smallest scales leave of results below 2^-126 is not held to anything.
      if (magnitude > 1e-20f || scale > 1e-3f) {
        expect(error <= 1e-3, std::string(type.name) + " scale " + std::to_string(scale) + ", x " +
                                  std::to_string(magnitude) + ": error " + std::to_string(error));
      }
      for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
        Floats spoiled = x;
        spoiled[512 + 77] = bad;
        const DeviceVector<float> device_spoiled(device.allocator, spoiled);
        const Floats out = run(device, path, *weight, device_spoiled, 0, 3);
        for (std::size_t i = 0; i < out.size(); ++i) {
          const bool right = i / 70 == 1 ? !std::isfinite(out[i]) : out[i] == clean[i];
          if (!right) {
            expect(false, std::string(type.name) + ": a value that is not finite leaves its token");
            break;
          }
        }
      }
    }
  }
}

void test_embed(Device& device, const WeightType& type) {
  std::mt19937 random(5);
  const std::int64_t rows = 300, cols = type.integer.bits == 0 ? 61 : 768;
  const HostMatrix matrix = test::random_blocks(type, rows, cols, 0.01f, random);
  const auto table = cuda::prepare_table(device.allocator, device.stream, matrix.view);
  const std::vector<std::int32_t> ids = {0, 299, 17, 17, 120};
  const DeviceVector<std::int32_t> device_ids(device.allocator, ids);
  const DeviceVector<float> out(device.allocator,
                                Floats(ids.size() * static_cast<std::size_t>(cols), std::nanf("")));
  cuda::embed(out.data(), *table, device_ids.data(), static_cast<std::int64_t>(ids.size()), device.stream);
  const Floats actual = out.get();
  Floats row(static_cast<std::size_t>(cols));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    type.decode(matrix.view.row(ids[i]), cols / type.block_values, row.data());
    expect(same_bits(actual.data() + i * cols, row.data(), cols), std::string(type.name) + ": embedding");
  }
}

void test_type(Device& device, const WeightType& type) {
  test_embed(device, type);
  test_products(device, Path::exact, "exact", type, {1, 9});
  std::vector<std::int64_t> counts = {1, 2, 7, 8, 9, 31, 32};
  if (has_integer_products(type)) {
    counts.resize(32);
    std::iota(counts.begin(), counts.end(), 1);
    test_company(device, type, 70, 768);
    if (!device.small) test_company(device, type, 1024, 4096);
    if (!device.small) test_company(device, type, 300, 14336);
  }
  test_products(device, Path::decode, "decode", type, counts);
  test_extremes(device, Path::decode, type);
  for (const std::int64_t n : {1, 2, 4, 5, 9, 17, 32, 40}) {
    test_targets(device, Path::decode, "decode", {&type, &type, &type}, n, n != 32);
    test_swiglu(device, Path::decode, "decode", type, type, n);
  }
  if (device.own) return;
  test_products(device, Path::prefill, "prefill", type, {1, 33, 128, 200, 513});
  if (type.name != "F32") test_extremes(device, Path::prefill, type);
  test_targets(device, Path::prefill, "prefill", {&type, &type, &type}, 70, true);
  test_swiglu(device, Path::prefill, "prefill", type, type, 70);
}

void test_mixed(Device& device) {
  const WeightType &q4 = *find_weight_type("Q4_0"), &q4k = *find_weight_type("Q4_K"),
                   &q6k = *find_weight_type("Q6_K"), &bf16 = *find_weight_type("BF16"),
                   &f32 = *find_weight_type("F32");
  test_targets(device, Path::decode, "decode mixed", {&q4k, &q6k, &f32}, 3, true);
  test_targets(device, Path::prefill, "prefill mixed", {&q4k, &q6k, &bf16}, 3, true);
  test_targets(device, Path::exact, "exact", {&q4k, &q6k, &f32}, 300, true);
  test_swiglu(device, Path::decode, "decode mixed", q4, q6k, 9);
  test_swiglu(device, Path::decode, "decode mixed", f32, q6k, 9);
  test_swiglu(device, Path::exact, "exact", f32, q6k, 9);
}

}  // namespace

int main(int argc, char** argv) {
  if (cga::test::has_no_device()) return 0;
  Device device;
  std::vector<const WeightType*> types;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) == "small") device.small = true;
    if (std::string_view(argv[i]) == "own") device.own = true;
    if (const WeightType* type = find_weight_type(argv[i])) types.push_back(type);
  }
  if (types.empty()) {
    types = weight_types();
    if (!device.own) test_mixed(device);
  }
  for (const WeightType* type : types) test_type(device, *type);
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures == 0 ? 0 : 1;
}
