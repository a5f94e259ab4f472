// The latent codec of the CPU backend against the scalar oracle, through Ops, on shapes chosen to be nasty;
// and what the oracle cannot show: that threads, neighbours and the way a call is cut leave no trace in the
// result.
#include <hwy/targets.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <vector>

#include "backend/backend.h"
#include "kernels/ops.h"
#include "support/catch.h"
#include "support/compare.h"
#include "support/latent_transform.h"

using namespace cga;
using namespace cga::test;

namespace {

/// A transform prepared on one backend.
class Codec {
 public:
  Codec(const std::string& device, int n_threads, const LatentView& view, std::span<const std::uint8_t> bits)
      : backend_(make_backend(device, n_threads)),
        latent_(backend_->ops().prepare_latent(view)),
        layout_(bits) {}

  const LatentLayout& layout() const { return layout_; }

  std::vector<std::byte> encode(const std::vector<float>& x, const std::vector<std::int32_t>& pages) const {
    const std::int32_t most = pages.empty() ? 0 : *std::max_element(pages.begin(), pages.end()) + 1;
    std::vector<std::byte> coded(static_cast<std::size_t>(most * layout().page_bytes()), std::byte{0x5a});
    backend_->ops().encode_pages({latent_.get(), &layout_, x.data(), coded.data(), pages});
    return coded;
  }

  std::vector<float> decode(const std::vector<std::byte>& coded, const std::vector<std::int32_t>& units,
                            const std::vector<ChannelRange>& channels) const {
    std::int64_t n_rows = 0;
    for (const ChannelRange& range : channels) n_rows += range.count;
    std::vector<float> out(units.size() * static_cast<std::size_t>(unit_tokens * n_rows), 77.0f);
    backend_->ops().decode_units({latent_.get(), &layout_, coded.data(), units, channels, out.data()});
    return out;
  }

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<PreparedLatent> latent_;
  LatentLayout layout_;
};

std::vector<std::int32_t> first_ids(std::size_t n) {
  std::vector<std::int32_t> ids(n);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

/// What decode_units promises (ops.h): y in 16 bits, one scale a block of components and tile of channels; or
/// in 8, where the processor multiplies bytes.
double decode_tolerance(std::int64_t targets = hwy::SupportedTargets()) {
  return (targets & HWY_AVX3_DL) != 0 ? 2e-2 : 2e-4;
}

/// Calls check(target) for every instruction set of this machine, which alone is used meanwhile.
template <class Check>
void on_each_target(const Check& check) {
  for (auto left = hwy::SupportedTargets(); left != 0; left &= left - 1) {
    const auto target = left & -left;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
    check(target);
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

/// How the CPU's reconstructions differ from the oracle's, without the means.
Comparison decode_error(Transform& transform, const std::vector<std::uint8_t>& bits) {
  const LatentView& view = transform.view();
  const Codec cpu("cpu", 2, view, bits), scalar("scalar", 1, view, bits);
  const std::vector<std::byte> coded = scalar.encode(transform.tokens(64), {0});
  return compare(centred(cpu.decode(coded, {3, 0, 1}, {{0, view.n}}), view),
                 centred(scalar.decode(coded, {3, 0, 1}, {{0, view.n}}), view),
                 static_cast<std::size_t>(view.n));
}

}  // namespace

TEST_CASE("codes agree with the oracle's, but for borders", "[latent]") {
  for (const LatentShape& shape : latent_shapes) {
    Transform transform(shape);
    const std::vector<std::uint8_t> bits = mixed_bits(transform.view());
    const std::vector<float> x = transform.tokens(64);
    const Codec cpu("cpu", 2, transform.view(), bits), scalar("scalar", 1, transform.view(), bits);
    const auto result = difference(cpu.layout(), cpu.encode(x, {0}), scalar.encode(x, {0}));
    INFO("n " << shape.n << ", m " << shape.m << ", w " << shape.w << ": " << result.n_different << " of "
              << result.n_codes << " codes differ");
    CHECK(result.largest <= 1);
    CHECK(static_cast<double>(result.n_different) <= 1e-3 * static_cast<double>(result.n_codes));
  }
}

TEST_CASE("reconstructions agree with the oracle's", "[latent]") {
  for (const LatentShape& shape : latent_shapes) {
    Transform transform(shape);
    const auto result = decode_error(transform, mixed_bits(transform.view()));
    INFO("n " << shape.n << ", m " << shape.m << ", w " << shape.w << ": " << result);
    CHECK(result.within(decode_tolerance()));
  }
}

TEST_CASE("one wrong component among hundreds is noticed", "[latent]") {
  Transform transform({384, 256, 64}, 2.0);
  const LatentView& view = transform.view();
  const std::vector<std::uint8_t> bits = mixed_bits(view);
  const Codec cpu("cpu", 1, view, bits), scalar("scalar", 1, view, bits);
  const std::vector<std::byte> coded = scalar.encode(transform.tokens(64), {0});
  const auto expected = scalar.decode(coded, {0}, {{0, view.n}});
  const auto blocks = scalar.layout().blocks();
  on_each_target([&](std::int64_t target) {
    // One value of the least of all; or, to bytes, all of the first that is not wide.
    const bool bytes = (target & HWY_AVX3_DL) != 0;
    const auto& block = bytes ? blocks[1] : blocks.back();
    std::vector<std::byte> wrong = coded;
    for (std::int64_t i = 0; i < (bytes ? block.component_bytes() : 1); ++i) {
      wrong[static_cast<std::size_t>(block.unit_offset + i)] ^= bytes ? std::byte{255} : std::byte{1};
    }
    const auto actual = cpu.decode(wrong, {0}, {{0, view.n}});
    INFO(hwy::TargetName(target));
    CHECK_FALSE(compare(centred(actual, view), centred(expected, view), static_cast<std::size_t>(view.n))
                    .within(decode_tolerance(target)));
  });
}

TEST_CASE("rates at which nothing or everything is kept", "[latent]") {
  Transform transform({256, 256, 128});
  const LatentView& view = transform.view();
  const std::vector<float> x = transform.tokens(64);

  const Codec nothing("cpu", 2, view, std::vector<std::uint8_t>(4, 0));
  CHECK(nothing.layout().page_bytes() == 0);
  const std::vector<std::byte> empty = nothing.encode(x, {0});
  const auto means = nothing.decode(empty, {0}, {{0, 256}});
  for (std::size_t i = 0; i < means.size(); ++i) CHECK(means[i] == view.mean[i % 256]);

  const std::vector<std::uint8_t> all = {8, 8, 4, 4};
  const Codec cpu("cpu", 2, view, all), scalar("scalar", 1, view, all);
  const auto codes = difference(cpu.layout(), cpu.encode(x, {0}), scalar.encode(x, {0}));
  CHECK(codes.largest <= 1);
  CHECK(codes.n_different <= codes.n_codes / 1000);
}

TEST_CASE("values at and beyond the outermost levels get the outermost codes", "[latent]") {
  Transform transform({128, 128, 128});
  const std::vector<std::uint8_t> bits = {8, 1};
  const Codec cpu("cpu", 1, transform.view(), bits), scalar("scalar", 1, transform.view(), bits);
  std::vector<float> x = transform.tokens(64);
  for (float& value : x) value *= 1e6f;
  const auto codes = difference(cpu.layout(), cpu.encode(x, {0}), scalar.encode(x, {0}));
  CHECK(codes.largest <= 1);
  CHECK(codes.n_different <= codes.n_codes / 1000);
}

TEST_CASE("threads and neighbours leave no trace in codes", "[latent]") {
  Transform transform({384, 320, 64});
  const std::vector<std::uint8_t> bits = mixed_bits(transform.view());
  const std::size_t row = 384 * 64;
  const std::vector<float> x = transform.tokens(6 * 64);
  const std::vector<std::int32_t> pages = {4, 0, 7, 2, 1, 5};
  const Codec one("cpu", 1, transform.view(), bits);
  const std::vector<std::byte> together = one.encode(x, pages);
  for (const int n_threads : {2, 3, 9}) {
    CHECK(Codec("cpu", n_threads, transform.view(), bits).encode(x, pages) == together);
  }
  const auto page_bytes = static_cast<std::size_t>(one.layout().page_bytes());
  for (std::size_t p = 0; p < pages.size(); ++p) {
    const auto from = x.begin() + static_cast<std::ptrdiff_t>(p * row);
    const std::vector<std::byte> alone =
        one.encode(std::vector<float>(from, from + static_cast<std::ptrdiff_t>(row)), {0});
    const auto at =
        together.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(pages[p]) * page_bytes);
    CHECK(std::equal(alone.begin(), alone.end(), at));
  }
  // Pages that were not asked for are left alone.
  for (const std::size_t untouched : {std::size_t{3}, std::size_t{6}}) {
    const auto at = together.begin() + static_cast<std::ptrdiff_t>(untouched * page_bytes);
    CHECK(std::all_of(at, at + static_cast<std::ptrdiff_t>(page_bytes),
                      [](std::byte byte) { return byte == std::byte{0x5a}; }));
  }
}

TEST_CASE("threads, neighbours and the choice of channels leave no trace in reconstructions", "[latent]") {
  Transform transform({512, 384, 128});
  const LatentView& view = transform.view();
  const std::vector<std::uint8_t> bits = mixed_bits(view);
  const Codec one("cpu", 1, view, bits);
  const std::vector<std::byte> coded = one.encode(transform.tokens(5 * 64), first_ids(5));
  const std::vector<std::int32_t> units = {19, 3, 4, 5, 0, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 1};
  const std::vector<float> all = one.decode(coded, units, {{0, 512}});
  const std::vector<ChannelRange> ranges = {{300, 7}, {0, 1}, {120, 17}, {500, 12}, {128, 129}};
  for (const int n_threads : {1, 2, 3, 16}) {
    const Codec many("cpu", n_threads, view, bits);
    CHECK(many.decode(coded, units, {{0, 512}}) == all);
    const std::vector<float> some = many.decode(coded, units, ranges);
    std::size_t at = 0;
    bool same = true;
    for (std::size_t token = 0; token < units.size() * unit_tokens; ++token) {
      for (const ChannelRange& range : ranges) {
        for (std::int64_t c = range.first; c < range.first + range.count; ++c) {
          same &= some[at++] == all[token * 512 + static_cast<std::size_t>(c)];
        }
      }
    }
    CHECK(same);
  }
  const Codec two("cpu", 2, view, bits);
  for (const std::size_t count : {1, 2, 3, 5, 8, 15, 16, 17}) {
    for (std::size_t first = 0; first + count <= units.size(); ++first) {
      const auto at = units.begin() + static_cast<std::ptrdiff_t>(first);
      const auto few = two.decode(coded, {at, at + static_cast<std::ptrdiff_t>(count)}, {{0, 512}});
      CHECK(std::equal(few.begin(), few.end(), all.begin() + static_cast<std::ptrdiff_t>(first * 16 * 512)));
    }
  }
}

TEST_CASE("any channels can be asked for", "[latent]") {
  Transform transform({384, 256, 64});
  const LatentView& view = transform.view();
  const std::vector<std::uint8_t> bits = {8, 4, 2, 1};
  const Codec cpu("cpu", 2, view, bits);
  const std::vector<std::byte> coded = cpu.encode(transform.tokens(64), {0});
  const std::vector<float> all = cpu.decode(coded, {0, 1, 2}, {{0, 384}});
  for (const std::int64_t count : {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 200}) {
    for (std::int64_t first = 0; first + count <= 384; first += 1 + count / 3) {
      const std::vector<float> some = cpu.decode(coded, {0, 1, 2}, {{first, count}});
      bool same = true;
      for (std::size_t i = 0; i < some.size(); ++i) {
        const auto row = static_cast<std::int64_t>(i) / count, c = static_cast<std::int64_t>(i) % count;
        same &= some[i] == all[static_cast<std::size_t>(row * 384 + first + c)];
      }
      INFO(first << ", " << count);
      CHECK(same);
    }
  }
}

TEST_CASE("components of one block may differ by orders of magnitude", "[latent]") {
  // Without wide components the first block holds nearly all of the energy, and its first components most.
  for (const double span : {3.0, 9.0, 18.0}) {
    for (const std::uint32_t seed : {1u, 2u, 3u}) {
      Transform transform({256, 128, 0}, span, seed);
      const auto result = decode_error(transform, {4, 2});
      INFO("span " << span << ", seed " << seed << ": " << result);
      CHECK(result.within(decode_tolerance()));
    }
  }
}

TEST_CASE("every width is read", "[latent]") {
  // Narrow components of 8 bits too, which no plan asks for.
  Transform transform({256, 256, 64});
  for (const int width : {1, 2, 4, 8}) {
    const auto result =
        decode_error(transform, std::vector<std::uint8_t>(4, static_cast<std::uint8_t>(width)));
    INFO(width << " bits: " << result);
    CHECK(result.within(decode_tolerance()));
  }
}

TEST_CASE("all instruction sets of this machine code and decode alike", "[latent]") {
  Transform transform({384, 320, 64});
  const LatentView& view = transform.view();
  const std::vector<std::uint8_t> bits = mixed_bits(view);
  const Codec cpu("cpu", 2, view, bits), scalar("scalar", 1, view, bits);
  const std::vector<float> x = transform.tokens(64);
  const std::vector<std::byte> coded = scalar.encode(x, {0});
  const auto expected = centred(scalar.decode(coded, {0, 1, 2, 3}, {{0, view.n}}), view);
  on_each_target([&](std::int64_t target) {
    const auto codes = difference(cpu.layout(), cpu.encode(x, {0}), coded);
    const auto actual = cpu.decode(coded, {0, 1, 2, 3}, {{0, view.n}});
    const auto some = cpu.decode(coded, {2}, {{100, 50}});
    bool same = true;
    for (std::size_t i = 0; i < some.size(); ++i) {
      same &= some[i] == actual[(2 * 16 + i / 50) * 384 + 100 + i % 50];
    }
    const auto result = compare(centred(actual, view), expected, 384);
    INFO(hwy::TargetName(target) << ": " << codes.n_different << " codes differ; " << result);
    CHECK(codes.largest <= 1);
    CHECK(codes.n_different <= codes.n_codes / 1000);
    CHECK(result.within(decode_tolerance(target)));
    CHECK(same);
  });
}

TEST_CASE("no units, no pages and no channels are no work", "[latent]") {
  Transform transform({128, 64, 0});
  const std::vector<std::uint8_t> bits = {2};
  const Codec cpu("cpu", 2, transform.view(), bits);
  CHECK(cpu.encode({}, {}).empty());
  const std::vector<std::byte> coded = cpu.encode(transform.tokens(64), {0});
  CHECK(cpu.decode(coded, {}, {{0, 128}}).empty());
  CHECK(cpu.decode(coded, {0}, {}).empty());
}
