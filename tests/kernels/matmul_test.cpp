// matmul on the CPU backend against the scalar oracle: every weight type, shapes that leave remainders
// everywhere, inputs at the ends of every range, and sums that must be exact.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/half.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"

namespace {

using cga::MatmulTarget;
using cga::WeightType;
using Floats = std::vector<float>;

/// A matrix of blocks that owns its bytes.
struct Matrix {
  std::vector<std::byte> bytes;
  cga::WeightView view;

  Matrix(const WeightType& type, std::int64_t rows, std::int64_t cols)
      : bytes(static_cast<std::size_t>(rows * type.row_bytes(cols))) {
    view = {std::string(type.name), &type, rows, cols, bytes.data()};
  }
};

Matrix random_matrix(const WeightType& type, std::int64_t rows, std::int64_t cols, std::mt19937& random,
                     float magnitude = 0.05f) {
  Matrix matrix(type, rows, cols);
  std::normal_distribution<float> normal(0.0f, magnitude);
  Floats values(static_cast<std::size_t>(rows * cols));
  for (float& value : values) value = normal(random);
  type.encode(values.data(), rows * cols / type.block_values, matrix.bytes.data());
  return matrix;
}

/// Where a block type keeps its f16 numbers.
std::vector<int> f16_offsets(const WeightType& type) {
  if (type.name == "Q6_K") return {type.block_bytes - 2};
  if (type.integer.has_min) return {0, 2};
  return {0};
}

/// Blocks of bytes from `next_byte`, their f16 numbers set to `scale`.
template <class NextByte>
Matrix raw_matrix(const WeightType& type, std::int64_t rows, std::int64_t cols, float scale,
                  NextByte next_byte) {
  Matrix matrix(type, rows, cols);
  for (std::byte& byte : matrix.bytes) byte = static_cast<std::byte>(next_byte());
  const std::uint16_t half = cga::f32_to_f16(scale);
  for (std::size_t block = 0; block < matrix.bytes.size();
       block += static_cast<std::size_t>(type.block_bytes)) {
    for (const int offset : f16_offsets(type)) {
      std::memcpy(matrix.bytes.data() + block + static_cast<std::size_t>(offset), &half, 2);
    }
  }
  return matrix;
}

Floats random_floats(std::int64_t n, std::mt19937& random, float magnitude = 1.0f) {
  std::normal_distribution<float> normal(0.0f, magnitude);
  Floats values(static_cast<std::size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

Floats multiply(cga::Backend& backend, const Matrix& matrix, const Floats& x, const float* bias = nullptr) {
  const auto n_tokens = static_cast<std::int64_t>(x.size()) / matrix.view.cols;
  const auto prepared = backend.ops().prepare(matrix.view);
  Floats out(static_cast<std::size_t>(n_tokens * matrix.view.rows), -1e30f);
  const MatmulTarget target{prepared.get(), bias, out.data()};
  backend.ops().matmul({&target, 1}, x.data(), n_tokens);
  return out;
}

/// The most rounding x to int16 can change each result: Σ |w| * half a step of its 32 columns' scale; and a
/// little for scales kept as f16 and for sums in f32.  [n_tokens, rows]
std::vector<double> error_bounds(const Matrix& matrix, const Floats& x) {
  const cga::WeightView& w = matrix.view;
  const auto n_tokens = static_cast<std::int64_t>(x.size()) / w.cols;
  Floats row(static_cast<std::size_t>(w.cols));
  std::vector<double> bounds(static_cast<std::size_t>(n_tokens * w.rows));
  for (std::int64_t r = 0; r < w.rows; ++r) {
    w.type->decode(w.row(r), w.cols / w.type->block_values, row.data());
    for (std::int64_t t = 0; t < n_tokens; ++t) {
      double bound = 0.0;
      for (std::int64_t block = 0; block < w.cols; block += 32) {
        const std::int64_t end = std::min(block + 32, w.cols);
        double largest = 0.0, weights = 0.0;
        for (std::int64_t c = block; c < end; ++c) {
          largest = std::max(largest, std::fabs(static_cast<double>(x[t * w.cols + c])));
          weights = std::max(weights, std::fabs(static_cast<double>(row[c])));
        }
        double magnitudes = 0.0;
        for (std::int64_t c = block; c < end; ++c) magnitudes += std::fabs(static_cast<double>(row[c]));
        bound += magnitudes * largest * 0.5001 / 32767 + 32 * weights * largest * 1e-3;
      }
      bounds[t * w.rows + r] = bound;
    }
  }
  return bounds;
}

std::size_t n_beyond(const Floats& actual, const Floats& expected, const std::vector<double>& bounds) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    if (!(std::fabs(static_cast<double>(actual[i]) - expected[i]) <= bounds[i])) ++n;
  }
  return n;
}

double contract(const WeightType& type) {
  return type.integer.bits == 0 ? 1e-5 : 1e-3;
}

struct Backends {
  std::unique_ptr<cga::Backend> scalar = cga::make_backend("scalar", 1);
  std::unique_ptr<cga::Backend> cpu = cga::make_backend("cpu", 2);
};

}  // namespace

TEST_CASE("matmul agrees with the oracle for every type and shape", "[matmul]") {
  Backends backends;
  std::mt19937 random(1);
  struct Shape {
    std::int64_t rows, cols, n_tokens;
  };
  for (const WeightType* type : cga::weight_types()) {
    const std::int64_t least = type->integer.bits == 0 ? 13 : type->block_values;
    for (const Shape s :
         {Shape{1, least, 1}, Shape{7, least, 3}, Shape{8, 768, 1}, Shape{9, 768, 2}, Shape{70, 1536, 5},
          Shape{576, 768, 8}, Shape{65, least, 17}, Shape{130, 1536, 64}, Shape{24, 4096, 261}}) {
      const Matrix matrix = random_matrix(*type, s.rows, s.cols, random);
      const Floats x = random_floats(s.n_tokens * s.cols, random), bias = random_floats(s.rows, random);
      const Floats expected = multiply(*backends.scalar, matrix, x, bias.data());
      const Floats actual = multiply(*backends.cpu, matrix, x, bias.data());
      const auto row = static_cast<std::size_t>(s.rows);
      const cga::test::Comparison result = cga::test::compare(actual, expected, row);
      INFO(type->name << " " << s.rows << " x " << s.cols << ", " << s.n_tokens << " tokens: " << result);
      // Single sums may cancel to nearly zero; L2 says something of rows with many.
      if (s.rows >= 64) CHECK(result.within(contract(*type)));
      CHECK(n_beyond(actual, expected, error_bounds(matrix, x)) == 0);
    }
  }
}

TEST_CASE("matmul rounds nothing but sums if activations are integers", "[matmul]") {
  Backends backends;
  std::mt19937 random(2);
  std::uniform_int_distribution<int> small(-3, 3);
  for (const WeightType* type : cga::weight_types()) {
    if (type->integer.bits == 0) continue;
    const Matrix matrix = raw_matrix(*type, 19, 512, 1.0f, random);
    for (const std::int64_t n_tokens : {1, 2, 3, 4, 30}) {
      Floats x(static_cast<std::size_t>(n_tokens * 512));
      for (std::size_t i = 0; i < x.size(); ++i) {
        // One 32767 / 256 in 32 columns makes their scale 1 / 256, so that nothing is rounded.
        x[i] = i % 32 == 5 ? 0x1.fffcp6f : static_cast<float>(small(random));
      }
      const Floats expected = multiply(*backends.scalar, matrix, x);
      const auto result = cga::test::compare(multiply(*backends.cpu, matrix, x), expected, 19);
      INFO(type->name << ", " << n_tokens << " tokens: " << result);
      CHECK(result.within(1e-6));
    }
  }
}

TEST_CASE("matmul does not saturate at the ends of the codes' ranges", "[matmul]") {
  Backends backends;
  for (const WeightType* type : cga::weight_types()) {
    if (type->integer.bits == 0) continue;
    for (const int byte : {0x00, 0x7f, 0x80, 0xff}) {
      // Scales of 1/64 keep the sums of K types, whose blocks have another factor of 63, in order.
      const Matrix matrix = raw_matrix(*type, 9, 512, 0x1p-6f, [byte] { return byte; });
      for (const std::int64_t n_tokens : {1, 4, 13}) {
        Floats x(static_cast<std::size_t>(n_tokens * 512), 32767.0f);
        for (std::size_t i = 512; i < x.size(); ++i) x[i] = i / 512 % 2 == 0 ? 32767.0f : -32767.0f;
        const Floats expected = multiply(*backends.scalar, matrix, x);
        const Floats actual = multiply(*backends.cpu, matrix, x);
        const cga::test::Comparison result = cga::test::compare(actual, expected, 9);
        INFO(type->name << ", bytes " << byte << ", " << n_tokens << " tokens: " << result);
        CHECK(result.within(1e-5));
      }
    }
  }
}

TEST_CASE("matmul keeps scales that f16 cannot hold", "[matmul]") {
  Backends backends;
  std::mt19937 random(3);
  for (const WeightType* type : cga::weight_types()) {
    if (type->integer.bits == 0) continue;
    for (const float scale : {60000.0f, 0x1p-24f, 0.0f}) {
      for (const float magnitude : {1e-30f, 1.0f, 1e20f}) {
        const Matrix matrix = raw_matrix(*type, 70, 512, scale, random);
        const Floats x = random_floats(2 * 512, random, magnitude);
        const Floats expected = multiply(*backends.scalar, matrix, x);
        INFO(type->name << ", scale " << scale << ", activations " << magnitude);
        CHECK(n_beyond(multiply(*backends.cpu, matrix, x), expected, error_bounds(matrix, x)) == 0);
      }
    }
  }
}

TEST_CASE("matmul confines values that are not finite to their token", "[matmul]") {
  Backends backends;
  std::mt19937 random(4);
  constexpr float inf = std::numeric_limits<float>::infinity();
  for (const WeightType* type : cga::weight_types()) {
    const Matrix matrix = random_matrix(*type, 20, 256, random);
    const Floats clean = random_floats(5 * 256, random);
    const Floats expected = multiply(*backends.cpu, matrix, clean);
    for (const float bad : {std::nanf(""), inf, -inf}) {
      Floats x = clean;
      x[2 * 256 + 77] = bad;
      const Floats out = multiply(*backends.cpu, matrix, x);
      for (std::size_t i = 0; i < out.size(); ++i) {
        INFO(type->name << " with " << bad << ", element " << i);
        const bool finite = std::isfinite(out[i]);
        if (i / 20 == 2) {
          CHECK(!finite);
        } else {
          CHECK(out[i] == expected[i]);
        }
      }
    }
  }
}

TEST_CASE("matmul gives a token the same bits alone, in company, and with any number of threads",
          "[matmul]") {
  std::mt19937 random(5);
  for (const WeightType* type : cga::weight_types()) {
    const Matrix matrix = random_matrix(*type, 83, 1536, random);
    const Floats x = random_floats(37 * 1536, random);
    const auto one_thread = cga::make_backend("cpu", 1);
    const Floats expected = multiply(*one_thread, matrix, x);
    for (const int n_threads : {2, 3}) {
      const auto backend = cga::make_backend("cpu", n_threads);
      INFO(type->name << ", " << n_threads << " threads");
      CHECK(multiply(*backend, matrix, x) == expected);
    }
    std::size_t token = 0;
    for (const std::size_t n_tokens : {1, 2, 3, 4, 9, 18}) {
      const auto begin = x.begin() + static_cast<std::ptrdiff_t>(token * 1536);
      const Floats part(begin, begin + static_cast<std::ptrdiff_t>(n_tokens * 1536));
      const Floats out = multiply(*one_thread, matrix, part);
      INFO(type->name << ", " << n_tokens << " tokens from " << token);
      CHECK(std::equal(out.begin(), out.end(), expected.begin() + static_cast<std::ptrdiff_t>(token * 83)));
      token += n_tokens;
    }
  }
}

TEST_CASE("matmul takes targets of several types in one call", "[matmul]") {
  Backends backends;
  std::mt19937 random(6);
  const Floats x = random_floats(6 * 768, random);
  std::vector<Matrix> matrices;
  for (const WeightType* type : cga::weight_types())
    matrices.push_back(random_matrix(*type, 45, 768, random));
  std::vector<std::unique_ptr<cga::PreparedWeight>> prepared;
  std::vector<Floats> outs(matrices.size(), Floats(6 * 45));
  std::vector<MatmulTarget> targets;
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    prepared.push_back(backends.cpu->ops().prepare(matrices[i].view));
    targets.push_back({prepared[i].get(), nullptr, outs[i].data()});
  }
  backends.cpu->ops().matmul(targets, x.data(), 6);
  for (std::size_t i = 0; i < matrices.size(); ++i) {
    INFO(matrices[i].view.name);
    CHECK(outs[i] == multiply(*backends.cpu, matrices[i], x));
  }
}

TEST_CASE("An error in one product fails the comparison", "[matmul]") {
  Backends backends;
  std::mt19937 random(7);
  const WeightType& type = *cga::find_weight_type("Q4_1");
  const Matrix matrix = random_matrix(type, 70, 768, random);
  const Floats x = random_floats(3 * 768, random);
  const Floats expected = multiply(*backends.scalar, matrix, x);
  Floats actual = multiply(*backends.cpu, matrix, x);
  REQUIRE(cga::test::compare(actual, expected, 70).within(1e-3));
  REQUIRE(n_beyond(actual, expected, error_bounds(matrix, x)) == 0);
  actual[100] = -actual[100] - 1.0f;
  CHECK(!cga::test::compare(actual, expected, 70).within(1e-3));
  CHECK(n_beyond(actual, expected, error_bounds(matrix, x)) == 1);
}
