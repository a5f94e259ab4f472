// The index against the Python one: what is chosen from the same attention inputs
// (tests/vectors/make_index.py), and how a sidecar that holds one is read.
#include "cga/index.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "support/catch.h"
#include "support/tensor_values.h"

namespace cga {
namespace {

std::string vector_path(const std::string& name) {
  return std::string(CGA_VECTORS) + "/index/" + name;
}

/// θ^(-2i / head_dim), as the model layer computes it.
std::vector<float> frequencies(const BaseModel& base) {
  std::vector<float> result;
  for (std::int32_t i = 0; i < base.head_dim; i += 2) {
    result.push_back(static_cast<float>(std::pow(base.rope_theta, -static_cast<double>(i) / base.head_dim)));
  }
  return result;
}

TEST_CASE("a sidecar gives its selection groups and what they choose by", "[sidecar]") {
  const Sidecar one(vector_path("one.cga")), two(vector_path("two.cga"));
  CHECK(one.metadata().defaults.kv_budget == 64);
  CHECK(one.metadata().index.heads == 5);
  CHECK(one.metadata().index.width == 24);
  REQUIRE(one.metadata().index.quality.size() == 1);
  CHECK(one.metadata().index.quality[0].recall == 0.5);
  REQUIRE(one.select_groups().size() == 1);
  CHECK(one.select_groups()[0].n_key_layers == 2);
  CHECK(one.index_bytes() == 2 * 256 * (5 * 24 + 2 * 24 + 5) + 4 * 5);
  REQUIRE(two.select_groups().size() == 2);
  CHECK(two.select_groups()[1].layers.first == 1);
  CHECK(two.select_groups()[1].n_key_layers == 1);
}

TEST_CASE("the same units are chosen as in Python, whatever batches the keys came in") {
  const std::string device = GENERATE("scalar", "cpu");
  const Sidecar sidecar(vector_path("one.cga"));
  const SafetensorsFile expected{MappedFile(vector_path("one.safetensors"))};
  const std::int64_t dim = sidecar.metadata().base.dim;
  const std::vector<float> inverse = frequencies(sidecar.metadata().base);
  const std::vector<std::vector<float>> h{test::tensor_values<float>(expected, "h.0"),
                                          test::tensor_values<float>(expected, "h.1")};
  const auto n_tokens = static_cast<std::int32_t>(static_cast<std::int64_t>(h[0].size()) / dim);
  const auto backend = make_backend(device, 2);
  for (const std::vector<std::int32_t>& pieces :
       {std::vector<std::int32_t>{n_tokens}, {n_tokens - 164, 100, 64}}) {
    Index index(*backend, sidecar, {RopePairs::halves, inverse, 64, 64}, 8);
    std::vector<std::int32_t> pages(7);
    std::generate(pages.begin(), pages.end(), [&] { return index.pages().take(); });
    std::int32_t position = 0;
    for (const std::int32_t n : pieces) {
      const SequenceRows rows{0, n, position, pages};
      IndexStep step(index, {&rows, 1});
      const NormedRows inputs[] = {{h[0].data() + position * dim}, {h[1].data() + position * dim}};
      step.observe(0, inputs[0]);
      step.observe(1, inputs[1]);
      std::vector<ScoredRow> scored;
      for (std::int32_t t = n - 64; t < n; ++t) scored.push_back({t, 1, 21, pages});
      if (position + n == n_tokens) {
        for (const std::int32_t count : {1, 5, 12}) {
          const auto wanted = test::tensor_values<std::int32_t>(expected, "chosen." + std::to_string(count));
          std::vector<std::int32_t> found(wanted.size());
          std::vector<std::int32_t> counts(scored.size());
          step.choose(0, inputs[0], scored, {count, count, count}, 0, found.data(), counts.data());
          CHECK(std::count(counts.begin(), counts.end(), count) == std::ssize(counts));
          std::size_t same = 0;
          for (std::size_t i = 0; i < found.size(); ++i) same += found[i] == wanted[i] ? 1 : 0;
          INFO(count << " of 20 on " << device << ": " << same << " of " << found.size() << " the same");
          CHECK(same * 100 >= found.size() * 99);  // a score may round to the other side of another
        }
      }
      position += n;
    }
  }
}

}  // namespace
}  // namespace cga
