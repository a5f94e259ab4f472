// attend over a choice of units: the same as over pages that hold just these tokens, on both backends,
// whatever the choice.
#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <vector>

#include "backend/backend.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

using namespace cga;

namespace {

constexpr std::int32_t n_pages = 12;

struct Shape {
  std::int32_t n_kv_heads, group, head_dim;
  KvElement element = KvElement::bf16;
};

using test::normal;

/// Pages 0 to n_pages - 1 of one layer, in order, full of one sequence.
class Layer {
 public:
  Layer(const char* device, const Shape& shape) : shape_(shape), backend_(make_backend(device, 2)) {
    const KvLayout layout{shape.n_kv_heads, shape.head_dim, shape.element};
    memory_ = backend_->allocate(static_cast<std::size_t>(n_pages * layout.page_bytes()), "test pages");
    pages_ = {memory_->data(), layout};
    for (std::int32_t p = 0; p < n_pages; ++p) ids_.push_back(p);
    const auto n = static_cast<std::size_t>(n_pages * page_tokens * shape.n_kv_heads * shape.head_dim);
    const std::vector<float> k = normal(n, 1), v = normal(n, 2);
    const SequenceRows all{0, n_pages * page_tokens, 0, ids_};
    backend_->ops().append({k.data(), v.data(), pages_, {&all, 1}});
  }

  std::vector<float> attend(std::vector<SequenceRows> sequences) const {
    std::int32_t n_rows = 0;
    for (SequenceRows& rows : sequences) {
      rows.first_row = n_rows;
      n_rows += rows.n_tokens;
    }
    const std::int32_t n_heads = shape_.n_kv_heads * shape_.group;
    const std::vector<float> q = normal(static_cast<std::size_t>(n_rows * n_heads * shape_.head_dim), 3);
    std::vector<float> out(q.size(), 77.0f);
    const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
    backend_->ops().attend({q.data(), out.data(), n_heads, scale, pages_, sequences});
    return out;
  }

  std::span<const std::int32_t> ids() const { return ids_; }

 private:
  Shape shape_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<Buffer> memory_;
  LayerPages pages_;
  std::vector<std::int32_t> ids_;
};

const Shape shapes[] = {{3, 3, 64}, {1, 1, 16}, {2, 6, 128}, {1, 7, 80, KvElement::f32}, {2, 1, 48}};

TEST_CASE("all units in order are what all pages are, bit for bit") {
  for (const Shape& shape : shapes) {
    for (const char* device : {"scalar", "cpu"}) {
      INFO(device << ", head_dim " << shape.head_dim);
      const Layer layer(device, shape);
      std::vector<std::int32_t> units(n_pages * page_units);
      for (std::size_t u = 0; u < units.size(); ++u) units[u] = static_cast<std::int32_t>(u);
      for (const auto& [position, n_tokens] :
           {std::pair{0, 1}, {15, 1}, {16, 3}, {63, 1}, {300, 64}, {700, 68}}) {
        INFO(n_tokens << " at " << position);
        const SequenceRows by_page{0, n_tokens, position, layer.ids()};
        const SequenceRows by_unit{0, n_tokens, position, {}, units};
        CHECK(layer.attend({by_page}) == layer.attend({by_unit}));
      }
    }
  }
}

TEST_CASE("any choice of units agrees with the reference, a choice a row, beside rows that read pages") {
  for (const Shape& shape : shapes) {
    INFO("head_dim " << shape.head_dim);
    const Layer reference("scalar", shape), cpu("cpu", shape);
    std::mt19937 random(7);
    std::vector<std::vector<std::int32_t>> choices;
    std::vector<SequenceRows> rows;
    for (const std::int32_t n_units : {1, 2, 3, 4, 5, 9, 17, 40}) {
      std::vector<std::int32_t> units(n_pages * page_units);
      for (std::size_t u = 0; u < units.size(); ++u) units[u] = static_cast<std::int32_t>(u);
      std::shuffle(units.begin(), units.end(), random);  // residents lie anywhere
      units.resize(static_cast<std::size_t>(n_units));
      choices.push_back(units);
    }
    for (const auto& units : choices) {
      const auto n_tokens = static_cast<std::int32_t>(units.size()) * unit_tokens;
      const auto last =
          static_cast<std::int32_t>(random() % unit_tokens);  // tokens missing from the last unit
      rows.push_back({0, 1, n_tokens - 1 - last, {}, units});
      rows.push_back({0, 1, static_cast<std::int32_t>(random() % 700), reference.ids()});
    }
    rows.push_back({0, 5, 70, {}, choices.back()});  // several rows over one choice
    const std::vector<float> expected = reference.attend(rows);
    const std::vector<float> found = cpu.attend(rows);
    const auto result = test::compare(found, expected, static_cast<std::size_t>(shape.head_dim));
    INFO(result);
    CHECK(result.within(2e-5));
    for (std::size_t r = 0; r < rows.size(); ++r) {  // neighbours leave no trace
      if (r != 4 && r != 12) continue;
      const std::vector<float> first = cpu.attend({rows[r]});
      const std::vector<float> again = cpu.attend({rows[r], rows[0], rows[15]});
      CHECK(std::equal(first.begin(), first.end(), again.begin()));
    }
  }
}

}  // namespace
