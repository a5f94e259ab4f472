// Attention, and its mass, over choices of units on the device beside the scalar reference: units of exact
// pages, residents and places that hold nothing, in one list; rows in any company.
#include <cmath>
#include <cstring>
#include <random>

#include "base/half.h"
#include "cuda/gpu.h"
#include "kernels/cuda/attention/resident_unit.cuh"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

namespace cga::test {
namespace {

constexpr std::int32_t n_pages = 12, n_resident_pages = 40;

struct Shape {
  std::int32_t n_kv_heads, group, head_dim;
  KvElement element = KvElement::bf16;

  std::int32_t n_heads() const { return n_kv_heads * group; }
  KvLayout layout() const { return {n_kv_heads, head_dim, element}; }
  KvLayout residents() const { return {n_kv_heads, head_dim, KvElement::i8}; }
};

const Shape shapes[] = {{3, 3, 64},  {2, 6, 128}, {2, 7, 64},
                        {8, 4, 128}, {1, 8, 128}, {1, 12, 64},
                        {2, 1, 48},  {1, 2, 96},  {1, 3, 80, KvElement::f32}};

/// One layer in a backend's memory: pages 0 to n_pages - 1 full of one sequence, and residents of random
/// codes.
class Layer {
 public:
  Layer(Backend& backend, const Shape& shape) : backend_(backend), shape_(shape) {
    const KvLayout layout = shape.layout();
    pages_ = take(static_cast<std::size_t>(n_pages * layout.page_bytes()), 0xff);  // not numbers
    for (std::int32_t p = 0; p < n_pages; ++p) ids_.push_back((p * 5 + 3) % n_pages);
    const std::int64_t n = n_pages * page_tokens;
    const std::vector<float> values =
        normal(static_cast<std::size_t>(2 * n * shape.n_kv_heads * shape.head_dim), 1);
    const auto rows = upload(values);
    const float* k = rows->as<float>();
    const SequenceRows all{0, static_cast<std::int32_t>(n), 0, ids_};
    backend_.ops().append(
        {k, k + n * shape.n_kv_heads * shape.head_dim, {pages_->data(), layout}, {&all, 1}});
    make_residents();
    static_cast<void>(backend_.read(pages_->data(), 1));  // done before the rows go
  }

  /// In a step of decoding in which the host decides, or as text.
  std::vector<float> attend(std::vector<SequenceRows> rows,
                            StepShape::Kind kind = StepShape::Kind::decode) const {
    const std::int32_t n_rows = number(rows);
    const auto n = static_cast<std::size_t>(n_rows * shape_.n_heads() * shape_.head_dim);
    const auto q = upload(queries(rows)), out = upload(std::vector<float>(n, 77.0f));
    run(kind, n_rows, [&] {
      backend_.ops().attend({.q = q->as<float>(),
                             .out = out->as<float>(),
                             .n_heads = shape_.n_heads(),
                             .scale = scale(),
                             .pages = {pages_->data(), shape_.layout()},
                             .sequences = rows,
                             .residents = residents()});
    });
    return download(*out, n);
  }

  /// Mass on top of ones, [rows, stride].
  std::vector<float> mass(std::vector<SequenceRows> rows, std::int64_t stride) const {
    const std::int32_t n_rows = number(rows);
    const auto n = static_cast<std::size_t>(n_rows * stride);
    const auto q = upload(queries(rows)), out = upload(std::vector<float>(n, 1.0f));
    run(StepShape::Kind::decode, n_rows, [&] {
      backend_.ops().attention_mass({.q = q->as<float>(),
                                     .n_heads = shape_.n_heads(),
                                     .scale = scale(),
                                     .pages = {pages_->data(), shape_.layout()},
                                     .sequences = rows,
                                     .mass = out->as<float>(),
                                     .stride = stride,
                                     .residents = residents()});
    });
    return download(*out, n);
  }

  std::span<const std::int32_t> ids() const { return ids_; }

 private:
  std::unique_ptr<Buffer> take(std::size_t bytes, int fill) const {
    auto buffer = backend_.allocate(bytes, "test");
    backend_.write(buffer->data(), std::vector<std::byte>(bytes, std::byte(fill)).data(), bytes);
    return buffer;
  }
  std::unique_ptr<Buffer> upload(const std::vector<float>& values) const {
    auto buffer = backend_.allocate(values.size() * 4, "test");
    backend_.write(buffer->data(), values.data(), values.size() * 4);
    return buffer;
  }
  std::vector<float> download(const Buffer& buffer, std::size_t n) const {
    const auto* first = static_cast<const float*>(backend_.read(buffer.data(), n * 4));
    return {first, first + n};
  }
  void run(StepShape::Kind kind, std::int32_t n_rows, const std::function<void()>& step) const {
    backend_.run_step(
        {.kind = kind, .host_decides = true, .n_tokens = n_rows, .n_sequences = n_rows, .max_position = 4000},
        step);
  }
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(shape_.head_dim)); }
  LayerPages residents() const {
    if (shape_.element != KvElement::bf16) return {};
    return {codes_->data(), shape_.residents(), scales_->data()};
  }

  /// Rows in order; every row's query is a function of where it stands.
  static std::int32_t number(std::vector<SequenceRows>& rows) {
    std::int32_t n = 0;
    for (SequenceRows& sequence : rows) {
      sequence.first_row = n;
      n += sequence.n_tokens;
    }
    return n;
  }
  std::vector<float> queries(const std::vector<SequenceRows>& rows) const {
    std::vector<float> all;
    for (const SequenceRows& sequence : rows) {
      for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
        const auto seed = static_cast<std::uint32_t>(1000 + sequence.position + t);
        const auto row = normal(static_cast<std::size_t>(shape_.n_heads() * shape_.head_dim), seed, 1.5f);
        all.insert(all.end(), row.begin(), row.end());
      }
    }
    return all;
  }

  /// The same codes and scales where each backend has them: the device by units, the reference by heads.
  void make_residents() {
    const KvLayout layout = shape_.residents();
    std::vector<std::byte> codes(static_cast<std::size_t>(n_resident_pages * layout.page_bytes()));
    std::vector<std::byte> scales(static_cast<std::size_t>(n_resident_pages * layout.page_scale_bytes()));
    std::mt19937 random(9);
    for (std::int32_t unit = 0; unit < page_units * n_resident_pages; ++unit) {
      for (std::int32_t plane = 0; plane < 2; ++plane) {
        for (std::int32_t head = 0; head < shape_.n_kv_heads; ++head) {
          for (std::int32_t token = 0; token < unit_tokens; ++token) {
            const std::int64_t at = vector_number(unit, plane, head, token);
            for (std::int64_t i = 0; i < shape_.head_dim; ++i) {
              codes[static_cast<std::size_t>(at * shape_.head_dim + i)] =
                  static_cast<std::byte>(static_cast<int>(random() % 255) - 127);
            }
            const std::uint16_t scale = f32_to_bf16(0.005f + 0.0001f * static_cast<float>(random() % 200));
            std::memcpy(scales.data() + 2 * at, &scale, 2);
          }
        }
      }
    }
    codes_ = backend_.allocate(codes.size(), "test");
    scales_ = backend_.allocate(scales.size(), "test");
    backend_.write(codes_->data(), codes.data(), codes.size());
    backend_.write(scales_->data(), scales.data(), scales.size());
  }
  std::int64_t vector_number(std::int32_t unit, std::int32_t plane, std::int32_t head,
                             std::int32_t token) const {
    if (backend_.name() == "cuda") {
      const KvLayout layout = shape_.residents();
      return plane == 0 ? cuda::resident_key(layout, unit, head, token)
                        : cuda::resident_value(layout, unit, head, token);
    }
    const std::int64_t block = (std::int64_t{unit / page_units} * 2 + plane) * shape_.n_kv_heads + head;
    return block * page_tokens + unit % page_units * unit_tokens + token;
  }

  Backend& backend_;
  Shape shape_;
  std::unique_ptr<Buffer> pages_, codes_, scales_;
  std::vector<std::int32_t> ids_;
};

/// A choice as a step over a compact cache lists it: the first unit alone in its four, n_chosen residents,
/// and the last n_window units of the pages.
std::vector<std::int32_t> choice(const Layer& layer, std::int32_t n_chosen, std::int32_t n_window,
                                 bool residents, std::uint32_t seed) {
  std::mt19937 random(seed);
  const auto fill_up = [](std::vector<std::int32_t>& units) {
    while (units.size() % page_units != 0) units.push_back(no_unit);
  };
  std::vector<std::int32_t> units{page_units * layer.ids()[0]};
  fill_up(units);
  for (std::int32_t i = 0; i < n_chosen; ++i) {
    const auto any = static_cast<std::int32_t>(random());
    if (residents) {
      units.push_back(resident_unit((any & 0xffff) % (page_units * n_resident_pages)));
    } else {
      units.push_back((any & 0xffff) % (page_units * n_pages));
    }
  }
  fill_up(units);
  for (std::int32_t u = page_units * n_pages - n_window; u < page_units * n_pages; ++u) {
    units.push_back(page_units * layer.ids()[static_cast<std::size_t>(u / page_units)] + u % page_units);
  }
  return units;
}

/// Rows that choose, rows that read pages, and several rows over one choice.
struct Rows {
  std::vector<std::vector<std::int32_t>> choices;
  std::vector<SequenceRows> sequences;

  Rows(const Layer& layer, bool residents) {
    std::uint32_t seed = 20;
    for (const std::int32_t n_chosen : {1, 3, 4, 17, 64, 130, 161}) {
      choices.push_back(choice(layer, n_chosen, 1 + n_chosen % 9, residents, seed++));
    }
    std::int32_t missing = 0;  // tokens of the last unit that are not there yet
    for (const auto& units : choices) {
      const auto n = static_cast<std::int32_t>(units.size()) * unit_tokens;
      sequences.push_back({0, 1, n - 1 - missing, {}, units});
      missing = (missing + 7) % unit_tokens;
      sequences.push_back({0, 1, (n * 37) % (n_pages * page_tokens), layer.ids()});
    }
    const auto& last = choices.back();
    sequences.push_back({0, 5, static_cast<std::int32_t>(last.size()) * unit_tokens - 9, {}, last});
  }
};

}  // namespace

TEST_CASE("choices of units agree with the reference, residents and empty places among them", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  double worst = 0;
  for (const Shape& shape : shapes) {
    const Layer expected(*scalar, shape), actual(*cuda, shape);
    for (const bool residents : {false, true}) {
      if (residents && shape.element != KvElement::bf16) continue;
      const Rows rows(expected, residents);
      const std::vector<float> wanted = expected.attend(rows.sequences);
      for (const StepShape::Kind kind : {StepShape::Kind::decode, StepShape::Kind::text}) {
        const auto result =
            compare(actual.attend(rows.sequences, kind), wanted, static_cast<std::size_t>(shape.head_dim));
        INFO(shape.n_kv_heads << " KV heads of " << shape.head_dim << ", group " << shape.group
                              << (residents ? ", residents" : ", pages")
                              << (kind == StepShape::Kind::decode ? ", decoding" : ", text"));
        INFO(result);
        CHECK(result.within(2e-5));
        worst = std::max(worst, result.worst_l2);
      }
    }
  }
  std::cout << "choices of units: worst relative L2 " << worst << "\n";
}

TEST_CASE("long choices are cut and merged in two levels as short ones are in one", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const Shape& shape : {Shape{1, 3, 64}, Shape{1, 7, 128}}) {
    const Layer expected(*scalar, shape), actual(*cuda, shape);
    for (const std::int32_t n_chosen : {500, 1016, 1300, 4200}) {  // 4 units of the first, 8 of the window
      INFO(n_chosen << " residents, head_dim " << shape.head_dim);
      const std::vector<std::int32_t> units = choice(expected, n_chosen, 8, true, 5);
      const std::vector<SequenceRows> rows{
          {0, 1, static_cast<std::int32_t>(units.size()) * unit_tokens - 3, {}, units}};
      const std::vector<float> found = actual.attend(rows);
      const auto result = compare(found, expected.attend(rows), static_cast<std::size_t>(shape.head_dim));
      INFO(result);
      CHECK(result.within(2e-5));
      CHECK(actual.attend(rows) == found);
    }
  }
}

TEST_CASE("a row's choice is read alike in any company, alone and among rows of its sequence", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  for (const Shape& shape : {Shape{3, 3, 64}, Shape{2, 6, 128}, Shape{1, 2, 96}}) {
    const Layer layer(*cuda, shape);
    const Rows rows(layer, true);
    const std::vector<float> together = layer.attend(rows.sequences);
    std::vector<float> apart;
    for (const SequenceRows& sequence : rows.sequences) {
      for (std::int32_t t = 0; t < sequence.n_tokens; ++t) {
        SequenceRows one = sequence;
        one.n_tokens = 1;
        one.position += t;
        const std::vector<float> row = layer.attend({one});
        apart.insert(apart.end(), row.begin(), row.end());
      }
    }
    INFO("head_dim " << shape.head_dim);
    CHECK(together == apart);
  }
}

TEST_CASE("all units in order are what pages are, and an empty four changes no bit", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const Layer layer(*cuda, {3, 3, 64});
  std::vector<std::int32_t> units;
  for (const std::int32_t page : layer.ids()) {
    for (std::int32_t u = 0; u < page_units; ++u) units.push_back(page_units * page + u);
  }
  for (const std::int32_t position : {0, 15, 16, 63, 64, 300, 511, 512, 767}) {
    INFO("position " << position);
    const std::vector<float> by_page = layer.attend({{0, 1, position, layer.ids()}});
    CHECK(layer.attend({{0, 1, position, {}, units}}) == by_page);
  }
}

TEST_CASE("the mass of units agrees with the reference and is added", "[gpu]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const Shape& shape : {Shape{3, 3, 64}, Shape{2, 1, 48}, Shape{1, 3, 80, KvElement::f32}}) {
    INFO("head_dim " << shape.head_dim);
    const Layer expected(*scalar, shape), actual(*cuda, shape);
    const Rows rows(expected, shape.element == KvElement::bf16);
    constexpr std::int64_t stride = 200;
    const std::vector<float> wanted = expected.mass(rows.sequences, stride);
    const std::vector<float> found = actual.mass(rows.sequences, stride);
    const auto result = compare(found, wanted, stride);
    INFO(result);
    CHECK(result.within(1e-4));
    CHECK(found == actual.mass(rows.sequences, stride));
    std::vector<SequenceRows> one{rows.sequences[8]};
    const std::vector<float> alone = actual.mass(one, stride);
    CHECK(std::equal(alone.begin(), alone.end(), found.begin() + 8 * stride));
  }
}

}  // namespace cga::test
