// Matrix products against their floors: memory bandwidth for a token, instructions for many. Weights are
// cycled through copies that do not fit the caches together, as the layers of a model are.
//
//   bench_matmul [threads] [type ...]
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "kernels/ops.h"
#include "timing.h"

namespace {

using cga::WeightType;

struct Shape {
  std::int64_t rows, cols;
  const char* what;
};

constexpr Shape shapes[] = {
    {576, 576, "SmolLM2 q, o"},   {1536, 576, "SmolLM2 gate, up"}, {576, 1536, "SmolLM2 down"},
    {49152, 576, "SmolLM2 head"}, {4096, 4096, "8B q, o"},         {4096, 14336, "8B down"},
};

/// Vector instructions that multiply 32 columns of 8 rows with one token on AVX2, unpacking and loads left
/// out: docs/kernels/matmul.md counts them.
double instructions_per_block(const WeightType& type) {
  const cga::IntegerForm& form = type.integer;
  if (form.bits == 0) return 32;             // fused multiply-adds, on 2 of the 4 pipes: counted twice, below
  if (form.bits == 8) return 8 * 4 + 3;      // sign, maddubs, madd, add; convert, scale, accumulate
  if (form.bits == 6) return 8 + 4 + 2 * 7;  // maddubs, add; for each group 2 madd, add, and 4 as below
  return 16 + (form.bits == 5 ? 2 : 0) + 5;  // maddubs, add, madd; convert, scale, accumulate, correct
}

/// Multiply-adds a second if every pipe issued an instruction in every cycle.
double instruction_bound(const WeightType& type, double clock, int n_threads) {
  const double pipes = type.integer.bits == 0 ? 2.0 : 4.0;
  return 256 * pipes / instructions_per_block(type) * clock * n_threads;
}

/// Copies of one matrix that together exceed the caches.
struct Copies {
  std::vector<std::byte> file;
  std::vector<std::unique_ptr<cga::PreparedWeight>> prepared;
  std::vector<std::vector<std::byte>> files;  // for types that are multiplied where they are mapped
};

void fill(const WeightType& type, std::int64_t rows, std::int64_t cols, std::vector<std::byte>& out) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 0.05f);
  std::vector<float> row(static_cast<std::size_t>(cols));
  for (float& value : row) value = normal(random);
  const auto row_bytes = static_cast<std::size_t>(type.row_bytes(cols));
  out.resize(static_cast<std::size_t>(rows) * row_bytes);
  type.encode(row.data(), cols / type.block_values, out.data());
  for (std::size_t at = row_bytes; at < out.size(); at += row_bytes) {
    std::copy_n(out.begin(), row_bytes, out.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

void run_shape(cga::Backend& backend, const WeightType& type, const Shape& shape, double bandwidth,
               double clock) {
  std::vector<std::vector<std::byte>> files(1);
  fill(type, shape.rows, shape.cols, files[0]);
  const std::size_t n_copies = 1 + (std::size_t{96} << 20) / files[0].size();
  std::vector<std::unique_ptr<cga::PreparedWeight>> weights;
  for (std::size_t i = 0; i < n_copies; ++i) {
    cga::WeightView view{std::string(type.name), &type, shape.rows, shape.cols, files.back().data()};
    weights.push_back(backend.ops().prepare(view));
    if (weights.back()->references_file && i + 1 < n_copies) files.push_back(files[0]);
  }
  for (const std::int64_t n_tokens : {1, 2, 4, 8, 64, 512}) {
    std::vector<float> x(static_cast<std::size_t>(n_tokens * shape.cols), 0.5f);
    std::vector<float> out(static_cast<std::size_t>(n_tokens * shape.rows));
    std::size_t next = 0;
    const auto timing = cga::bench::time_runs([&] {
      const cga::MatmulTarget target{weights[next].get(), nullptr, out.data()};
      backend.ops().matmul({&target, 1}, x.data(), n_tokens);
      next = (next + 1) % n_copies;
    });
    const double bytes = static_cast<double>(weights[0]->bytes) / timing.median;
    const double macs = static_cast<double>(shape.rows * shape.cols * n_tokens) / timing.median;
    std::printf("%-5s %6lld x %-6lld %4lld %10.1f us %7.1f GB/s %4.0f%% %8.1f GMAC/s %4.0f%%  %s\n",
                type.name.data(), static_cast<long long>(shape.rows), static_cast<long long>(shape.cols),
                static_cast<long long>(n_tokens), timing.median * 1e6, bytes * 1e-9, 100 * bytes / bandwidth,
                macs * 1e-9, 100 * macs / instruction_bound(type, clock, backend.n_threads()), shape.what);
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto backend = cga::make_backend("cpu", argc > 1 ? std::atoi(argv[1]) : 0);
  const double bandwidth = cga::bench::read_bandwidth(*backend), clock = cga::bench::clock_rate();
  std::printf("%s; %.1f GB/s read, %.2f GHz\n", backend->description().c_str(), bandwidth * 1e-9,
              clock * 1e-9);
  std::printf("type    rows x cols   tokens     median   of weights          products\n");
  for (const WeightType* type : cga::weight_types()) {
    bool wanted = argc <= 2;
    for (int i = 2; i < argc; ++i) wanted = wanted || type->name == argv[i];
    if (!wanted) continue;
    for (const Shape& shape : shapes) run_shape(*backend, *type, shape, bandwidth, clock);
  }
  return 0;
}
