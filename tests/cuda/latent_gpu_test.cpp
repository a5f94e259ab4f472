// The latent codec on the device beside the scalar reference: codes and reconstructions; and what the
// reference cannot show: that neighbours, the shape of a call and the kind of a step leave no trace in a bit.
#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "cga/codec_plan.h"
#include "cga/sidecar.h"
#include "cuda/array.h"
#include "cuda/gpu.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/latent_transform.h"
#include "support/normal.h"

namespace cga::test {
namespace {

constexpr std::byte poison{0x5a};

/// Components are rounded to f16 before they are multiplied, which errs by half of this at most: far less
/// than ops.h allows.
constexpr double decode_tolerance = 1e-3;

std::vector<float> nothing(std::size_t n) {
  return std::vector<float>(n, std::numeric_limits<float>::quiet_NaN());
}

/// A transform prepared on one backend.
class Codec {
 public:
  Codec(Backend& backend, const LatentView& view, const LatentLayout& layout)
      : backend_(backend), latent_(backend.ops().prepare_latent(view)), layout_(layout) {}

  const LatentLayout& layout() const { return layout_; }

  /// @return pages 0 to the last of `pages`; those that were not coded are poison
  std::vector<std::byte> encode(const std::vector<float>& x, const std::vector<std::int32_t>& pages) const {
    const std::int32_t most = pages.empty() ? 0 : *std::max_element(pages.begin(), pages.end()) + 1;
    const Array<std::byte> coded(
        backend_, std::vector<std::byte>(static_cast<std::size_t>(most * layout_.page_bytes()), poison));
    const Array<float> rows(backend_, x);
    backend_.ops().encode_pages({latent_.get(), &layout_, rows.at(), coded.at(), pages});
    return coded.values();
  }

  std::vector<float> decode(const std::vector<std::byte>& coded, const std::vector<std::int32_t>& units,
                            const std::vector<ChannelRange>& channels) const {
    std::int64_t row = 0;
    for (const ChannelRange& range : channels) row += range.count;
    const Array<std::byte> pool(backend_, coded);
    const Array<float> out(backend_, nothing(units.size() * static_cast<std::size_t>(unit_tokens * row)));
    decode(pool, units, channels, out);
    return out.values();
  }

  void decode(const Array<std::byte>& coded, const std::vector<std::int32_t>& units,
              const std::vector<ChannelRange>& channels, const Array<float>& out) const {
    backend_.ops().decode_units({latent_.get(), &layout_, coded.at(), units, channels, out.at()});
  }

 private:
  Backend& backend_;
  std::unique_ptr<PreparedLatent> latent_;
  LatentLayout layout_;
};

/// Whether channels [first, first + count) are the same bits in rows of them as in rows of all n.
bool same_channels(const std::vector<float>& some, const std::vector<float>& all, std::int64_t n,
                   const std::vector<ChannelRange>& ranges) {
  std::size_t at = 0;
  for (std::size_t row = 0; row * static_cast<std::size_t>(n) < all.size(); ++row) {
    for (const ChannelRange& range : ranges) {
      const float* from = &all[row * static_cast<std::size_t>(n) + static_cast<std::size_t>(range.first)];
      const auto bytes = static_cast<std::size_t>(range.count) * sizeof(float);
      if (std::memcmp(&some[at], from, bytes) != 0) return false;
      at += static_cast<std::size_t>(range.count);
    }
  }
  return at == some.size();
}

std::vector<std::int32_t> first_ids(std::int32_t n) {
  std::vector<std::int32_t> ids(static_cast<std::size_t>(n));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

void require_alike(const CodeDifference& codes) {
  INFO(codes.n_different << " of " << codes.n_codes << " codes differ, by at most " << codes.largest);
  CHECK(codes.largest <= 1);
  CHECK(static_cast<double>(codes.n_different) <= 1e-3 * static_cast<double>(codes.n_codes));
}

}  // namespace

TEST_CASE("codes and reconstructions agree with the oracle's on nasty shapes", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const LatentShape& shape : latent_shapes) {
    Transform transform(shape);
    const LatentView& view = transform.view();
    const LatentLayout layout(mixed_bits(view));
    const Codec device(*cuda, view, layout), oracle(*scalar, view, layout);
    INFO("n " << shape.n << ", m " << shape.m << ", w " << shape.w);
    const std::vector<float> x = transform.tokens(64);
    const std::vector<std::byte> coded = oracle.encode(x, {0});
    require_alike(difference(layout, device.encode(x, {0}), coded));
    for (const std::vector<std::int32_t>& units : {std::vector<std::int32_t>{2}, {3, 0, 1}}) {
      const std::vector<ChannelRange> all{{0, view.n}};
      const auto result =
          compare(centred(device.decode(coded, units, all), view),
                  centred(oracle.decode(coded, units, all), view), static_cast<std::size_t>(view.n));
      INFO(result);
      CHECK(result.within(decode_tolerance));
    }
  }
}

TEST_CASE("one wrong component among hundreds is noticed on the device", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  Transform transform({384, 256, 64}, 2.0);
  const LatentView& view = transform.view();
  const LatentLayout layout(mixed_bits(view));
  const Codec device(*cuda, view, layout), oracle(*scalar, view, layout);
  std::vector<std::byte> coded = oracle.encode(transform.tokens(64), {0});
  const std::vector<ChannelRange> all{{0, view.n}};
  const auto expected = centred(oracle.decode(coded, {0}, all), view);
  coded[static_cast<std::size_t>(layout.blocks().back().unit_offset)] ^= std::byte{1};
  const auto actual = centred(device.decode(coded, {0}, all), view);
  CHECK_FALSE(compare(actual, expected, static_cast<std::size_t>(view.n)).within(decode_tolerance));
}

TEST_CASE("every width is coded and read on the device", "[gpu][latent]") {
  // Narrow components of 8 bits too, which no plan asks for; and components that span orders of magnitude.
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const std::int64_t w : {0, 64}) {
    for (const double span : {3.0, 9.0, 18.0}) {
      Transform transform({256, 192, w}, span);
      const LatentView& view = transform.view();
      const std::vector<float> x = transform.tokens(64);
      for (const int width : {1, 2, 4, 8}) {
        const LatentLayout layout(std::vector<std::uint8_t>(3, static_cast<std::uint8_t>(width)));
        const Codec device(*cuda, view, layout), oracle(*scalar, view, layout);
        INFO("w " << w << ", span " << span << ", " << width << " bits");
        const std::vector<std::byte> coded = oracle.encode(x, {0});
        require_alike(difference(layout, device.encode(x, {0}), coded));
        const std::vector<ChannelRange> all{{0, view.n}};
        const auto result =
            compare(centred(device.decode(coded, {3, 0, 1}, all), view),
                    centred(oracle.decode(coded, {3, 0, 1}, all), view), static_cast<std::size_t>(view.n));
        INFO(result);
        CHECK(result.within(decode_tolerance));
      }
    }
  }
}

TEST_CASE("rates at which nothing or everything is kept, and values beyond all levels", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  Transform transform({256, 256, 128});
  const LatentView& view = transform.view();
  std::vector<float> x = transform.tokens(64);

  const LatentLayout none(std::vector<std::uint8_t>(4, 0));
  const Codec nothing(*cuda, view, none);
  CHECK(nothing.encode(x, {0}).empty());
  const auto means = nothing.decode({}, {0}, {{0, 256}});
  for (std::size_t i = 0; i < means.size(); ++i) CHECK(means[i] == view.mean[i % 256]);

  const std::vector<std::uint8_t> all{8, 8, 4, 4}, wide_only{8, 1, 0, 0}, narrow_only{0, 0, 4, 1};
  for (const std::vector<std::uint8_t>& bits : {all, wide_only, narrow_only}) {
    const LatentLayout layout(bits);
    const Codec device(*cuda, view, layout), oracle(*scalar, view, layout);
    require_alike(difference(layout, device.encode(x, {0}), oracle.encode(x, {0})));
  }
  for (float& value : x) value *= 1e6f;
  const LatentLayout layout(all);
  const Codec device(*cuda, view, layout), oracle(*scalar, view, layout);
  require_alike(difference(layout, device.encode(x, {0}), oracle.encode(x, {0})));
}

TEST_CASE("neighbours leave no trace in codes on the device", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  // Of the second, four pages are coded as wholes and one by halves, where there are 132 multiprocessors.
  for (const LatentShape& shape : {LatentShape{384, 320, 64}, LatentShape{128, 1600, 64}}) {
    Transform transform(shape);
    const LatentLayout layout(mixed_bits(transform.view()));
    const Codec device(*cuda, transform.view(), layout);
    const auto row = static_cast<std::ptrdiff_t>(shape.n * page_tokens);
    const std::vector<float> x = transform.tokens(6 * 64);
    const std::vector<std::int32_t> pages = {4, 0, 7, 2, 1, 5};  // more than a slab
    const std::vector<std::byte> together = device.encode(x, pages);
    const auto page_bytes = static_cast<std::ptrdiff_t>(layout.page_bytes());
    for (std::size_t p = 0; p < pages.size(); ++p) {
      const auto from = x.begin() + static_cast<std::ptrdiff_t>(p) * row;
      const std::vector<std::byte> alone = device.encode({from, from + row}, {0});
      CHECK(std::equal(alone.begin(), alone.end(), together.begin() + pages[p] * page_bytes));
    }
    for (const std::int32_t untouched : {3, 6}) {
      const auto at = together.begin() + untouched * page_bytes;
      CHECK(std::all_of(at, at + page_bytes, [](std::byte byte) { return byte == poison; }));
    }
    CHECK(device.encode({}, {}).empty());
  }
}

TEST_CASE("neighbours and the choice of channels leave no trace in reconstructions on the device",
          "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  Transform transform({512, 384, 128});
  const LatentView& view = transform.view();
  const LatentLayout layout(mixed_bits(view));
  const Codec device(*cuda, view, layout);
  const std::vector<std::byte> page = Codec(*scalar, view, layout).encode(transform.tokens(64), {0});
  std::vector<std::byte> coded;  // 20 pages that differ
  for (std::ptrdiff_t p = 0; p < 20; ++p) {
    coded.insert(coded.end(), page.begin(), page.end());
    std::rotate(coded.end() - static_cast<std::ptrdiff_t>(page.size()),
                coded.end() - static_cast<std::ptrdiff_t>(page.size()) + 2 * p, coded.end());
  }
  std::vector<std::int32_t> units = first_ids(80);
  std::rotate(units.begin(), units.begin() + 33, units.end());
  const std::vector<ChannelRange> whole{{0, 512}};
  const std::vector<float> all = device.decode(coded, units, whole);
  const std::size_t a_unit = 16 * 512;

  for (const std::size_t count : {0, 1, 2, 3, 15, 16, 17, 63, 64, 65}) {
    for (const std::size_t first : {std::size_t{0}, std::size_t{7}, 80 - count}) {
      if (first + count > 80) continue;
      const auto at = units.begin() + static_cast<std::ptrdiff_t>(first);
      const std::vector<float> few =
          device.decode(coded, {at, at + static_cast<std::ptrdiff_t>(count)}, whole);
      INFO(count << " units from " << first);
      CHECK(few.size() == count * a_unit);
      CHECK(std::equal(few.begin(), few.end(), all.begin() + static_cast<std::ptrdiff_t>(first * a_unit)));
    }
  }
  const std::vector<std::vector<ChannelRange>> choices = {
      {{300, 7}, {0, 1}, {120, 17}, {500, 12}, {128, 129}},  // any
      {{64, 64}, {320, 64}},                                 // one layer of four, one head of 64
      {{96, 96}, {352, 96}},                                 // heads that pieces of 64 cut
      {{511, 1}},
      {{0, 512}}};
  for (const std::vector<ChannelRange>& ranges : choices) {
    for (const std::int32_t count : {1, 80}) {
      const std::vector<std::int32_t> some(units.begin(), units.begin() + count);
      const std::vector<float> of_all(all.begin(), all.begin() + count * static_cast<std::ptrdiff_t>(a_unit));
      CHECK(same_channels(device.decode(coded, some, ranges), of_all, 512, ranges));
    }
  }
  CHECK(device.decode(coded, {0}, {}).empty());
}

TEST_CASE("a recorded step decodes as a call does", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  Transform transform({384, 256, 64});
  const LatentView& view = transform.view();
  const LatentLayout layout(mixed_bits(view));
  const Codec device(*cuda, view, layout);
  const std::vector<std::byte> coded = device.encode(transform.tokens(64), {0});
  const std::vector<ChannelRange> ranges{{64, 64}, {256, 64}};
  const Array<std::byte> pool(*cuda, coded);
  for (const std::vector<std::int32_t>& units : {std::vector<std::int32_t>{1}, {3, 0, 2}}) {
    const std::vector<float> expected = device.decode(coded, units, ranges);
    const Array<float> out(*cuda, nothing(expected.size()));
    for (int times = 1; times <= 4; ++times) {  // directly, recorded, launched
      out.set(nothing(expected.size()));
      cuda->run_step({.kind = StepShape::Kind::decode, .n_tokens = 1, .n_sequences = 1},
                     [&] { device.decode(pool, units, ranges, out); });
      INFO("step " << times);
      CHECK(out.values() == expected);
    }
  }
}

TEST_CASE("the device codes and decodes with sidecars as the oracle does", "[gpu][latent]") {
  const auto cuda = gpu();
  if (!cuda) return;
  const auto scalar = make_backend("scalar", 1);
  for (const std::string name : {"three-layers", "qwen2-mixed"}) {
    const Sidecar sidecar(std::string(CGA_VECTORS) + "/codec/" + name + ".cga");
    for (const LayerGroup& group : sidecar.groups()) {
      const LatentView& view = group.transform;
      std::vector<float> x = normal(static_cast<std::size_t>(64 * view.n), 3);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t c = i % static_cast<std::size_t>(view.n);
        x[i] = view.mean[c] + x[i] / view.scale[c];
      }
      for (const double rate : {1.0, 1.5, 2.0}) {
        const LatentLayout layout = plan_layout(view, rate);
        const Codec device(*cuda, view, layout), oracle(*scalar, view, layout);
        INFO(name << " at " << rate);
        const std::vector<std::byte> coded = oracle.encode(x, {0});
        require_alike(difference(layout, device.encode(x, {0}), coded));
        const std::vector<ChannelRange> all{{0, view.n}};
        const auto result =
            compare(centred(device.decode(coded, {0, 1, 2, 3}, all), view),
                    centred(oracle.decode(coded, {0, 1, 2, 3}, all), view), static_cast<std::size_t>(view.n));
        INFO(result);
        CHECK(result.within(decode_tolerance));
      }
    }
  }
}

}  // namespace cga::test
