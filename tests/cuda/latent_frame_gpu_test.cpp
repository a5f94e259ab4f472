// gather_pages, scatter_units and copy_pages on the device beside the scalar reference. Pages of bf16 and f32
// lie alike in both; of i8 each has its own way (kernels/cuda/attention/resident_unit.cuh).
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/half.h"
#include "cuda/array.h"
#include "cuda/gpu.h"
#include "kernels/cuda/attention/resident_unit.cuh"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/normal.h"

namespace cga::test {
namespace {

std::vector<std::int32_t> first_ids(std::int32_t n) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

struct Frame {
  std::int32_t n_layers, n_kv_heads, head_dim;
  RopePairs pairs = RopePairs::halves;
  KvElement element = KvElement::bf16;
  float magnitude = 1.0f;

  KvLayout layout() const { return {n_kv_heads, head_dim, element}; }
  std::size_t channels() const { return 2 * static_cast<std::size_t>(n_layers * n_kv_heads * head_dim); }
};

constexpr std::int32_t n_pages = 5;
constexpr std::int32_t n_units = n_pages * page_units;

/// Pages of some layers, full of what is NaN in every element type but i8.
class Pages {
 public:
  Pages(Backend& backend, const Frame& frame) : backend_(backend), frame_(frame) {
    const KvLayout layout = frame.layout();
    for (std::int32_t l = 0; l < frame.n_layers; ++l) {
      memory_.emplace_back(backend, filled(n_pages * layout.page_bytes()));
      scales_.emplace_back(backend, filled(n_pages * layout.page_scale_bytes()));
      layers_.push_back({memory_.back().at(), layout, scales_.back().at()});
    }
  }

  PageFrame frame() const { return {layers_, frame_.pairs, frame_.magnitude}; }
  std::vector<std::byte> bytes(std::size_t layer) const { return memory_[layer].values(); }
  std::vector<std::byte> scales(std::size_t layer) const { return scales_[layer].values(); }

  /// The same keys and values for every backend.
  void append() const {
    const auto n = static_cast<std::size_t>(n_pages * page_tokens * frame_.n_kv_heads * frame_.head_dim);
    std::vector<std::int32_t> ids = first_ids(n_pages);
    const SequenceRows rows{0, n_pages * page_tokens, 0, ids};
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      const auto seed = static_cast<std::uint32_t>(2 * l);
      const Array<float> k(backend_, normal(n, seed)), v(backend_, normal(n, seed + 1));
      backend_.ops().append({k.at(), v.at(), layers_[l], {&rows, 1}});
      static_cast<void>(v.values());  // the op has ended before its inputs do
    }
  }

  std::vector<float> gather(const std::vector<std::int32_t>& pages, const std::vector<float>& angles) const {
    const Array<float> cos_sin(backend_, angles);
    const Array<float> x(backend_, std::vector<float>(pages.size() * page_tokens * frame_.channels(),
                                                      std::numeric_limits<float>::quiet_NaN()));
    backend_.ops().gather_pages({frame(), pages, cos_sin.at(), x.at()});
    return x.values();
  }

  void scatter(const std::vector<std::int32_t>& units, const std::vector<float>& angles,
               const std::vector<float>& rows) const {
    const Array<float> cos_sin(backend_, angles), x(backend_, rows);
    backend_.ops().scatter_units({frame(), units, cos_sin.at(), x.at()});
    static_cast<void>(x.values());
  }

 private:
  static std::vector<std::byte> filled(std::int64_t bytes) {
    return std::vector<std::byte>(static_cast<std::size_t>(bytes), std::byte{0xff});
  }

  Backend& backend_;
  Frame frame_;
  std::vector<Array<std::byte>> memory_, scales_;
  std::vector<LayerPages> layers_;
};

/// Cosines, then sines, of n arbitrary rotations.
std::vector<float> rotations(std::size_t n, std::int32_t head_dim) {
  const auto half = static_cast<std::size_t>(head_dim / 2);
  const std::vector<float> angles = normal(n * half, 8, 3.0f);
  std::vector<float> cos_sin(n * 2 * half);
  for (std::size_t i = 0; i < angles.size(); ++i) {
    const std::size_t at = i / half * 2 * half + i % half;
    cos_sin[at] = std::cos(angles[i]);
    cos_sin[at + half] = std::sin(angles[i]);
  }
  return cos_sin;
}

const Frame frames[] = {{3, 3, 64, RopePairs::interleaved},
                        {2, 2, 128},
                        {4, 8, 128},
                        {1, 1, 16},
                        {2, 1, 10},
                        {1, 2, 80, RopePairs::interleaved, KvElement::f32, 1.3f},
                        {2, 1, 64, RopePairs::halves, KvElement::f32, 0.7f}};

/// One layer of residents as a backend keeps them.
struct Residents {
  Residents(const Pages& pages, const Frame& frame, std::size_t layer, bool is_reference)
      : layout(frame.layout()),
        reference(is_reference),
        codes(pages.bytes(layer)),
        scales(pages.scales(layer)) {}

  /// The number of a vector among all.
  std::int64_t vector(int plane, std::int32_t unit, std::int32_t head, std::int32_t token) const {
    if (!reference) {
      return (plane == 0 ? cuda::key_offset(layout, unit, head, token)
                         : cuda::value_offset(layout, unit, head, token)) /
             layout.head_dim;
    }
    const std::int64_t heads = layout.n_kv_heads;
    return ((unit / page_units * 2 + plane) * heads + head) * page_tokens + unit % page_units * unit_tokens +
           token;
  }
  float scale(std::int64_t vector) const {
    std::uint16_t half;
    std::memcpy(&half, &scales[static_cast<std::size_t>(2 * vector)], 2);
    return bf16_to_f32(half);
  }
  double value(std::int64_t vector, std::int32_t i) const {
    const auto code = static_cast<std::int8_t>(codes[static_cast<std::size_t>(vector * layout.head_dim + i)]);
    return code * double{scale(vector)};
  }

  KvLayout layout;
  bool reference;
  std::vector<std::byte> codes, scales;
};

}  // namespace

TEST_CASE("gathered rows agree with the oracle's on equal pages", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const Frame& frame : frames) {
    const Pages device(*cuda, frame), oracle(*scalar, frame);
    device.append();
    oracle.append();
    const std::vector<std::int32_t> ids{4, 0, 3};
    const std::vector<float> angles = rotations(ids.size(), frame.head_dim);
    const auto result = compare(device.gather(ids, angles), oracle.gather(ids, angles), frame.channels());
    INFO(frame.n_layers << " layers, " << frame.n_kv_heads << " heads of " << frame.head_dim << ": "
                        << result);
    CHECK(result.within(1e-6));
  }
}

TEST_CASE("scattered units agree with the oracle's in pages of f32 and bf16", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (Frame frame : frames) {
    for (const KvElement element : {KvElement::f32, KvElement::bf16}) {
      frame.element = element;
      const Pages device(*cuda, frame), oracle(*scalar, frame);
      const std::vector<std::int32_t> units{13, 0, 6, 7, 19};
      const std::vector<float> angles = rotations(units.size(), frame.head_dim),
                               x = normal(units.size() * unit_tokens * frame.channels(), 5);
      device.scatter(units, angles, x);
      oracle.scatter(units, angles, x);
      INFO(frame.n_layers << " layers, " << frame.n_kv_heads << " heads of " << frame.head_dim
                          << (element == KvElement::f32 ? ", f32" : ", bf16"));
      // Both backends arrange such pages alike; what was not written is NaN in both.
      for (std::size_t l = 0; l < static_cast<std::size_t>(frame.n_layers); ++l) {
        const std::vector<std::byte> a = device.bytes(l), b = oracle.bytes(l);
        std::vector<float> of_a, of_b;
        for (std::size_t i = 0; i < a.size(); i += element == KvElement::f32 ? 4 : 2) {
          const auto value = [i, element](const std::vector<std::byte>& from) {
            float f = 0;
            std::uint16_t half = 0;
            if (element == KvElement::f32) {
              std::memcpy(&f, &from[i], 4);
              return f;
            }
            std::memcpy(&half, &from[i], 2);
            return bf16_to_f32(half);
          };
          of_a.push_back(value(a));
          of_b.push_back(value(b));
        }
        const auto row = static_cast<std::size_t>(frame.head_dim);
        std::vector<float> written_a, written_b;  // NaN rows have no norm
        for (std::size_t i = 0; i < of_a.size(); i += row) {
          if (std::isnan(of_a[i]) && std::isnan(of_b[i])) continue;
          written_a.insert(written_a.end(), &of_a[i], &of_a[i] + row);
          written_b.insert(written_b.end(), &of_b[i], &of_b[i] + row);
        }
        CHECK(written_a.size() ==
              units.size() * unit_tokens * 2 * static_cast<std::size_t>(frame.n_kv_heads * frame.head_dim));
        const auto result = compare(written_a, written_b, row);
        INFO(result);
        CHECK(result.within(element == KvElement::f32 ? 1e-6 : 4e-3));  // a tie of bf16 may go either way
      }
    }
  }
}

TEST_CASE("scattered residents are the oracle's codes, where both backends keep them", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (Frame frame : frames) {
    frame.element = KvElement::i8;
    const Pages device(*cuda, frame), oracle(*scalar, frame);
    const std::vector<std::int32_t> units{13, 0, 6, 7, 19};
    const std::vector<float> angles = rotations(units.size(), frame.head_dim);
    std::vector<float> x = normal(units.size() * unit_tokens * frame.channels(), 5);
    const float factors[] = {1.0f, 0.0f, 1e-36f, 1e20f};
    for (std::size_t i = 0; i < x.size(); ++i) x[i] *= factors[i / frame.channels() % 4];
    device.scatter(units, angles, x);
    oracle.scatter(units, angles, x);
    INFO(frame.n_layers << " layers, " << frame.n_kv_heads << " heads of " << frame.head_dim);
    std::size_t n_values = 0, n_different = 0;
    for (std::size_t l = 0; l < static_cast<std::size_t>(frame.n_layers); ++l) {
      const Residents a(device, frame, l, false), b(oracle, frame, l, true);
      for (std::int32_t i = 0; i < static_cast<std::int32_t>(units.size()) * 2 * frame.n_kv_heads * 16; ++i) {
        const int plane = i % 2;
        const std::int32_t token = i / 2 % 16, head = i / 32 % frame.n_kv_heads,
                           unit = units[static_cast<std::size_t>(i / 32 / frame.n_kv_heads)];
        const std::int64_t of_a = a.vector(plane, unit, head, token),
                           of_b = b.vector(plane, unit, head, token);
        const double step = b.scale(of_b);
        REQUIRE(std::abs(a.scale(of_a) - step) <= step / 128);
        for (std::int32_t dim = 0; dim < frame.head_dim; ++dim, ++n_values) {
          const double apart = std::abs(a.value(of_a, dim) - b.value(of_b, dim));
          n_different += apart > 0 ? 1 : 0;
          // A key may be a code off, and its scale a bit; a value is not rotated: nothing makes it differ.
          if (apart > (plane == 0 ? 2.1 * step : 0))
            FAIL("layer " << l << ", unit " << unit << ", " << apart);
        }
      }
    }
    INFO(n_different << " of " << n_values << " differ");
    CHECK(static_cast<double>(n_different) <= 2e-2 * static_cast<double>(n_values));

    // Units that were not written are as they were.
    const auto a_unit = static_cast<std::size_t>(frame.layout().page_bytes() / page_units);
    const std::vector<std::byte> bytes = device.bytes(0);
    for (std::int32_t unit = 0; unit < n_units; ++unit) {
      const bool written = std::find(units.begin(), units.end(), unit) != units.end();
      const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(a_unit) * unit;
      const bool poisoned = std::all_of(at, at + static_cast<std::ptrdiff_t>(a_unit),
                                        [](std::byte byte) { return byte == std::byte{0xff}; });
      CHECK(poisoned == !written);
    }
  }
}

TEST_CASE("no units and no pages are no work on the device", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const Frame frame{2, 3, 64};
  const Pages pages(*cuda, frame);
  const std::vector<std::byte> before = pages.bytes(0);
  pages.scatter({}, {}, {});
  CHECK(pages.gather({}, {}).empty());
  CHECK(pages.bytes(0) == before);
}

TEST_CASE("pages are copied as they are", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const Frame frame{1, 3, 64};
  const Pages from(*cuda, frame), to(*cuda, frame);
  from.append();
  const std::vector<std::int32_t> from_ids{3, 0}, to_ids{1, 4};
  cuda->ops().copy_pages({from.frame().layers[0], to.frame().layers[0], from_ids, to_ids});
  const std::vector<std::byte> source = from.bytes(0), copy = to.bytes(0);
  const std::ptrdiff_t page = frame.layout().page_bytes();
  for (std::size_t i = 0; i < 2; ++i) {
    const auto at = source.begin() + from_ids[i] * page;
    CHECK(std::equal(at, at + page, copy.begin() + to_ids[i] * page));
  }
  for (const std::int32_t untouched : {0, 2, 3}) {
    const auto at = copy.begin() + untouched * page;
    CHECK(std::all_of(at, at + page, [](std::byte byte) { return byte == std::byte{0xff}; }));
  }
}

}  // namespace cga::test
