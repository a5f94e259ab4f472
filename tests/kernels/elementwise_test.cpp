// Norm, RoPE, SwiGLU, add and embed of the CPU backend against the scalar oracle, at lengths around the
// vectors' and the threads' seams.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

using namespace cga;
using cga::test::compare;

namespace {

using test::normal;

struct Backends {
  std::unique_ptr<Backend> cpu = make_backend("cpu", 2), scalar = make_backend("scalar", 1);
};

constexpr int lengths[] = {1, 3, 7, 8, 9, 31, 32, 33, 64, 576, 1000, 4096};

}  // namespace

TEST_CASE("rms_norm agrees with the oracle", "[elementwise]") {
  Backends backends;
  for (const int dim : lengths) {
    for (const int n_tokens : {1, 5, 67}) {
      const auto n = static_cast<std::size_t>(dim) * static_cast<std::size_t>(n_tokens);
      const std::vector<float> x = normal(n, 1, 30.0f), weight = normal(static_cast<std::size_t>(dim), 2);
      std::vector<float> actual = x, expected(n);  // in place on one side
      backends.cpu->ops().rms_norm(actual.data(), actual.data(), weight.data(), 1e-5f, n_tokens, dim);
      backends.scalar->ops().rms_norm(expected.data(), x.data(), weight.data(), 1e-5f, n_tokens, dim);
      const auto result = compare(actual, expected, static_cast<std::size_t>(dim));
      INFO("dim " << dim << ", " << n_tokens << " tokens: " << result);
      CHECK(result.within(1e-6));
    }
  }
}

TEST_CASE("rms_norm of zeros is zeros, of tiny values follows eps", "[elementwise]") {
  Backends backends;
  std::vector<float> x(32, 0.0f), weight(32, 1.0f), out(32, 7.0f);
  backends.cpu->ops().rms_norm(out.data(), x.data(), weight.data(), 1e-6f, 1, 32);
  CHECK(out == x);
  x.assign(32, 1e-3f);
  backends.cpu->ops().rms_norm(out.data(), x.data(), weight.data(), 1e-6f, 1, 32);
  CHECK(out[5] == test::Approx(1 / std::sqrt(2.0)).epsilon(1e-6));  // the mean square is eps itself
}

TEST_CASE("rope agrees with the oracle, both pairings, far positions", "[elementwise]") {
  Backends backends;
  const std::vector<std::int32_t> positions = {0, 1, 63, 64, 4095, 131071, 131072, 1000000};
  for (const int head_dim : {16, 48, 64, 80, 128}) {
    const auto half = static_cast<std::size_t>(head_dim / 2);
    std::vector<float> frequency(half);
    for (std::size_t i = 0; i < half; ++i) {
      frequency[i] = std::pow(10000.0f, -static_cast<float>(2 * i) / static_cast<float>(head_dim));
    }
    std::vector<float> actual_angles(positions.size() * 2 * half), expected_angles(actual_angles.size());
    backends.cpu->ops().rope_angles(actual_angles.data(), positions, frequency, 1.25f);
    backends.scalar->ops().rope_angles(expected_angles.data(), positions, frequency, 1.25f);
    CHECK(compare(actual_angles, expected_angles, half).within(1e-6));
    CHECK(expected_angles[0] == 1.25f);
    CHECK(expected_angles[half] == 0.0f);

    for (const RopePairs pairs : {RopePairs::halves, RopePairs::interleaved}) {
      for (const int n_heads : {1, 3, 9}) {
        const auto n = positions.size() * static_cast<std::size_t>(n_heads * head_dim);
        std::vector<float> actual = normal(n, 3), expected = actual;
        const auto n_tokens = static_cast<std::int64_t>(positions.size());
        backends.cpu->ops().rope(actual.data(), expected_angles.data(), pairs, n_tokens, n_heads, head_dim);
        backends.scalar->ops().rope(expected.data(), expected_angles.data(), pairs, n_tokens, n_heads,
                                    head_dim);
        const auto result = compare(actual, expected, static_cast<std::size_t>(head_dim));
        INFO("head_dim " << head_dim << ", " << n_heads << " heads: " << result);
        CHECK(result.within(1e-6));
      }
    }
  }
}

TEST_CASE("rope of many tokens, split among threads, agrees with the oracle", "[elementwise]") {
  Backends backends;
  constexpr int n_tokens = 150, n_heads = 9, head_dim = 64;
  const std::vector<float> cos_sin = normal(n_tokens * head_dim, 4);
  std::vector<float> actual = normal(n_tokens * n_heads * head_dim, 5), expected = actual;
  backends.cpu->ops().rope(actual.data(), cos_sin.data(), RopePairs::halves, n_tokens, n_heads, head_dim);
  backends.scalar->ops().rope(expected.data(), cos_sin.data(), RopePairs::halves, n_tokens, n_heads,
                              head_dim);
  CHECK(compare(actual, expected, head_dim).within(1e-6));
}

TEST_CASE("swiglu agrees with the oracle", "[elementwise]") {
  Backends backends;
  for (const int length : {1, 3, 7, 8, 9, 33, 1536, 40000}) {
    const auto n = static_cast<std::size_t>(length);
    const std::vector<float> gate = normal(n, 6, 4.0f), up = normal(n, 7);
    std::vector<float> actual = gate, expected(n);  // out aliases gate
    backends.cpu->ops().swiglu(actual.data(), actual.data(), up.data(), length);
    backends.scalar->ops().swiglu(expected.data(), gate.data(), up.data(), length);
    const auto result = compare(actual, expected, 1);
    INFO("n " << length << ": " << result);
    CHECK(result.within(5e-6));
  }
}

TEST_CASE("swiglu saturates instead of overflowing, and passes NaN on", "[elementwise]") {
  Backends backends;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> gate = {0.0f, 80.0f, 300.0f, 1e30f, -60.0f, -88.0f, nan, 1.0f, 2.0f};
  const std::vector<float> up = {3.0f, 1.0f, 2.0f, 1.0f, 1.0f, 1.0f, 1.0f, nan, 1.0f};
  std::vector<float> actual(gate.size()), expected(gate.size());
  const auto n = static_cast<std::int64_t>(gate.size());
  backends.cpu->ops().swiglu(actual.data(), gate.data(), up.data(), n);
  backends.scalar->ops().swiglu(expected.data(), gate.data(), up.data(), n);
  const auto result = compare(actual, expected, 1);
  INFO(result);
  CHECK(result.within(2e-5));

  // Below that the result is less than the smallest normal number times the gate: nothing, but never NaN.
  const std::vector<float> far = {-90.0f, -127.9f, -1000.0f, -1e30f};
  const std::vector<float> ones(4, 1.0f);
  backends.cpu->ops().swiglu(actual.data(), far.data(), ones.data(), 4);
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(actual[i]) < 1e-35f);
}

TEST_CASE("add is exact", "[elementwise]") {
  Backends backends;
  for (const int length : {1, 7, 8, 9, 576, 70000}) {
    const auto n = static_cast<std::size_t>(length);
    std::vector<float> x = normal(n, 8), expected = x;
    const std::vector<float> y = normal(n, 9);
    backends.cpu->ops().add(x.data(), y.data(), length);
    for (std::size_t i = 0; i < n; ++i) expected[i] += y[i];
    CHECK(x == expected);
  }
}

TEST_CASE("embed decodes the rows asked for, in order, repeated ones too", "[elementwise]") {
  Backends backends;
  for (const WeightType* type : weight_types()) {
    const std::int64_t rows = 50, cols = 512;
    const std::vector<float> values = normal(static_cast<std::size_t>(rows * cols), 10);
    std::vector<std::byte> bytes(static_cast<std::size_t>(rows * type->row_bytes(cols)));
    type->encode(values.data(), rows * cols / type->block_values, bytes.data());
    const WeightView table{"table", type, rows, cols, bytes.data()};
    std::vector<std::int32_t> ids = {49, 0, 7, 7, 23};
    for (int i = 0; i < 100; ++i) ids.push_back((i * 17) % 50);
    std::vector<float> actual(ids.size() * cols), expected(ids.size() * cols);
    backends.cpu->ops().embed(actual.data(), *backends.cpu->ops().prepare_table(table), ids);
    backends.scalar->ops().embed(expected.data(), *backends.scalar->ops().prepare_table(table), ids);
    INFO(type->name);
    CHECK(actual == expected);
    std::vector<float> row(cols);
    type->decode(table.row(49), cols / type->block_values, row.data());
    CHECK(std::memcmp(row.data(), actual.data(), cols * sizeof(float)) == 0);
  }
}
