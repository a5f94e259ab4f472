// Low-rank matrices beside attention's projections: which rows of them belong to which elements of a query.
#include "cga/adapters.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "support/catch.h"

namespace cga {
namespace {

TEST_CASE("queries that lie in pairs get the rows of their own elements", "[adapters]") {
  const std::string device = GENERATE("scalar", "cpu");
  const Sidecar sidecar(std::string(CGA_VECTORS) + "/index/adapted.cga");
  const BaseModel& base = sidecar.metadata().base;
  const auto backend = make_backend(device, 1);
  const std::int64_t rank = sidecar.adapters()[1].rank, q_dim = std::int64_t{base.n_heads} * base.head_dim;
  std::vector<float> narrow(static_cast<std::size_t>(rank));
  std::iota(narrow.begin(), narrow.end(), -2.0f);
  const RowRange row{0, 1};
  const auto query = [&](RopePairs pairs) {
    Adapters adapters(*backend, sidecar, pairs);
    const AdaptedRows adapted = adapters.of(1, {&row, 1});
    std::vector<float> out(static_cast<std::size_t>(q_dim));
    const MatmulTarget target{adapted.query.up, nullptr, out.data()};
    backend->ops().matmul({&target, 1}, narrow.data(), 1);
    return out;
  };
  const std::vector<float> halves = query(RopePairs::halves), pairs = query(RopePairs::interleaved);
  const auto at = [&](const std::vector<float>& q, std::int32_t head, std::int32_t i) {
    return q[static_cast<std::size_t>(head * base.head_dim + i)];
  };
  for (std::int32_t head = 0; head < base.n_heads; ++head) {
    for (std::int32_t i = 0; i < base.head_dim / 2; ++i) {
      REQUIRE(at(pairs, head, 2 * i) == at(halves, head, i));
      REQUIRE(at(pairs, head, 2 * i + 1) == at(halves, head, base.head_dim / 2 + i));
    }
  }
  CHECK(*std::max_element(halves.begin(), halves.end()) > 0);
}

}  // namespace
}  // namespace cga
