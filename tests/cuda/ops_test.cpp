// The small ops, and the fused steps of a layer, on the device beside the scalar reference.
#include "kernels/ops.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "cuda/gpu.h"
#include "quant/weight_type.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

namespace cga::test {
namespace {

/// Floats in a backend's memory.
class Floats {
 public:
  Floats(Backend& backend, const std::vector<float>& values)
      : backend_(backend), size_(values.size()), buffer_(backend.allocate(values.size() * 4 + 4, "test")) {
    backend.write(buffer_->data(), values.data(), values.size() * 4);
  }
  Floats(Backend& backend, std::size_t n)
      : Floats(backend, std::vector<float>(n, std::numeric_limits<float>::quiet_NaN())) {}

  float* at() const { return buffer_->as<float>(); }
  std::vector<float> values() const {
    const auto* first = static_cast<const float*>(backend_.read(at(), size_ * 4));
    return {first, first + size_};
  }

 private:
  Backend& backend_;
  std::size_t size_;
  std::unique_ptr<Buffer> buffer_;
};

void require_same(const Floats& actual, const Floats& expected, std::size_t row, double l2) {
  const Comparison comparison = compare(actual.values(), expected.values(), row);
  INFO(comparison);
  REQUIRE(comparison.within(l2));
}

/// A quantised matrix with its prepared form on each of two backends.
struct Matrix {
  Matrix(const char* type_name, std::int64_t n_rows, std::int64_t n_cols, std::uint32_t seed) {
    const WeightType* type = find_weight_type(type_name);
    const std::vector<float> values = normal(static_cast<std::size_t>(n_rows * n_cols), seed, 0.05f);
    bytes.resize(static_cast<std::size_t>(n_rows * type->row_bytes(n_cols)));
    type->encode(values.data(), n_rows * n_cols / type->block_values, bytes.data());
    view = {"matrix", type, n_rows, n_cols, bytes.data()};
  }
  std::vector<std::byte> bytes;
  WeightView view;
};

/// norm_swiglu and matmul_add of a layer, in a step of that kind.
void check_fused_steps(StepShape::Kind kind) {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  const Matrix gate("Q4_0", 1536, 576, 6), up("Q4_0", 1536, 576, 7), down("Q6_K", 576, 1536, 8);
  for (const std::int32_t n_tokens : {1, 5, 40}) {
    const auto n = static_cast<std::size_t>(n_tokens);
    INFO(n_tokens << " rows");
    const std::vector<float> x = normal(n * 576, 9), w = normal(576, 10);
    const auto run = [&](Backend& backend, const Floats& out, const Floats& mixed, const Floats& room) {
      const Floats norm(backend, w), h(backend, n * 576);
      const auto g = backend.ops().prepare(gate.view), u = backend.ops().prepare(up.view),
                 d = backend.ops().prepare(down.view);
      backend.run_step({.kind = kind, .n_tokens = n_tokens, .n_sequences = n_tokens}, [&] {
        backend.ops().norm_swiglu({g.get(), nullptr, mixed.at()}, {u.get(), nullptr, room.at()},
                                  {out.at(), norm.at(), 1e-5f, h.at()}, n_tokens);
        backend.ops().matmul_add(out.at(), *d, mixed.at(), n_tokens, h.at());
      });
      static_cast<void>(backend.read(out.at(), 4));  // the step has ended before its matrices do
    };
    const Floats expected(*scalar, x), expected_mixed(*scalar, n * 1536), expected_room(*scalar, n * 1536);
    const Floats actual(*cuda, x), actual_mixed(*cuda, n * 1536), actual_room(*cuda, n * 1536);
    run(*scalar, expected, expected_mixed, expected_room);
    run(*cuda, actual, actual_mixed, actual_room);
    require_same(actual_mixed, expected_mixed, 1536, 2e-3);  // two products of 1e-3 each
    require_same(actual, expected, 576, 2e-3);
  }
}

}  // namespace

TEST_CASE("small ops agree with the reference", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const std::int64_t n_tokens : {1, 3, 65}) {
    for (const std::int64_t dim : {64, 576, 1536, 4099}) {
      INFO(n_tokens << " rows of " << dim);
      const auto n = static_cast<std::size_t>(n_tokens * dim);
      const std::vector<float> x = normal(n, 1), y = normal(n, 2, 3.0f),
                               w = normal(static_cast<std::size_t>(dim), 3);
      const auto row = static_cast<std::size_t>(dim);
      const auto check = [&](double l2, const auto& op) {
        std::vector<std::vector<float>> results;
        Floats expected_x(*scalar, x), expected_y(*scalar, y), expected_w(*scalar, w), expected(*scalar, n);
        Floats actual_x(*cuda, x), actual_y(*cuda, y), actual_w(*cuda, w), actual(*cuda, n);
        op(scalar->ops(), expected.at(), expected_x.at(), expected_y.at(), expected_w.at());
        op(cuda->ops(), actual.at(), actual_x.at(), actual_y.at(), actual_w.at());
        require_same(actual, expected, row, l2);
      };
      check(1e-5, [&](Ops& ops, float* out, float* a, float*, float* weight) {
        ops.rms_norm(out, a, weight, 1e-5f, n_tokens, dim);
      });
      check(1e-5,
            [&](Ops& ops, float* out, float* a, float* b, float*) { ops.swiglu(out, b, a, n_tokens * dim); });
      check(0, [&](Ops& ops, float* out, float* a, float* b, float*) {
        std::vector<std::int32_t> rows(static_cast<std::size_t>(n_tokens));
        std::iota(rows.begin(), rows.end(), 0);
        ops.add(a, b, n_tokens * dim);
        ops.gather(out, a, rows, dim);
      });
    }
  }
}

TEST_CASE("rotations agree with the reference at every depth", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  const std::vector<std::int32_t> positions{0, 1, 63, 4096, 131071};
  for (const std::int32_t head_dim : {64, 80, 128}) {
    for (const RopePairs pairs : {RopePairs::halves, RopePairs::interleaved}) {
      std::vector<float> frequencies(static_cast<std::size_t>(head_dim / 2));
      for (std::size_t i = 0; i < frequencies.size(); ++i) {
        frequencies[i] = static_cast<float>(std::pow(10000.0, -2.0 * static_cast<double>(i) / head_dim));
      }
      const std::vector<float> x = normal(positions.size() * 3 * static_cast<std::size_t>(head_dim), 4);
      const auto rotate = [&](Backend& backend, const Floats& angles, const Floats& heads) {
        backend.ops().rope_angles(angles.at(), positions, frequencies, 1.0f);
        backend.ops().rope(heads.at(), angles.at(), pairs, 5, 3, head_dim);
      };
      const std::size_t n_angles = positions.size() * static_cast<std::size_t>(head_dim);
      const Floats expected_angles(*scalar, n_angles), expected(*scalar, x);
      const Floats actual_angles(*cuda, n_angles), actual(*cuda, x);
      rotate(*scalar, expected_angles, expected);
      rotate(*cuda, actual_angles, actual);
      require_same(actual_angles, expected_angles, static_cast<std::size_t>(head_dim), 1e-6);
      require_same(actual, expected, static_cast<std::size_t>(head_dim), 1e-6);
    }
  }
}

TEST_CASE("embed decodes rows of every weight type exactly", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const WeightType* type : weight_types()) {
    INFO(type->name);
    const Matrix matrix(std::string(type->name).c_str(), 50, 512, 5);
    const std::vector<std::int32_t> ids{49, 0, 7, 7, 23};
    const Floats expected(*scalar, ids.size() * 512), actual(*cuda, ids.size() * 512);
    scalar->ops().embed(expected.at(), *scalar->ops().prepare_table(matrix.view), ids);
    const auto table = cuda->ops().prepare_table(matrix.view);
    cuda->ops().embed(actual.at(), *table, ids);
    REQUIRE(actual.values() == expected.values());
  }
}

TEST_CASE("attention while decoding takes no more memory than was reserved", "[gpu]") {
  if (!gpu()) return;
  constexpr KvLayout layout{1, 64, KvElement::bf16};
  const std::pair<std::int64_t, std::int64_t> matrix{64, 64};
  for (const std::int32_t n_ctx : {300, 5000, 8192, 20'000, 33'000}) {
    INFO("contexts of " << n_ctx << " tokens");
    const auto cuda = make_backend(BackendOptions{.device = "cuda", .memory_limit = std::int64_t{1} << 30});
    cuda->ops().reserve_work({.n_tokens = 2,
                              .n_sequences = 2,
                              .n_ctx = n_ctx,
                              .n_heads = 4,
                              .head_dim = 64,
                              .matrices = {&matrix, 1}});
    const Floats q(*cuda, normal(2 * 4 * 64, 11)), out(*cuda, 2 * 4 * 64);
    const auto page = cuda->allocate(static_cast<std::size_t>(layout.page_bytes()), "test");
    const std::vector<std::int32_t> ids(static_cast<std::size_t>(n_ctx / page_tokens + 1), 0);
    const SequenceRows rows[] = {{0, 1, n_ctx - 1, ids}, {1, 1, 0, ids}};
    const std::int64_t before = cuda->memory().available;
    for (int i = 0; i < 3; ++i) {  // at first directly, then recorded
      cuda->run_step(
          {.kind = StepShape::Kind::decode, .n_tokens = 2, .n_sequences = 2, .max_position = n_ctx - 1}, [&] {
            cuda->ops().attend({.q = q.at(),
                                .out = out.at(),
                                .n_heads = 4,
                                .scale = 0.125f,
                                .pages = {page->data(), layout},
                                .sequences = rows});
          });
    }
    for (const float value : out.values()) REQUIRE(value == 0.0f);  // the page is zeros
    CHECK(cuda->memory().available == before);
  }
}

TEST_CASE("the fused steps of a decoding layer are what they are made of", "[gpu]") {
  check_fused_steps(StepShape::Kind::decode);
}

TEST_CASE("the fused steps of a layer that reads text are what they are made of", "[gpu]") {
  check_fused_steps(StepShape::Kind::text);
}

}  // namespace cga::test
