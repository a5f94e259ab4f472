// Bits from variances against the Python oracle's vectors and by the properties of the rule; packing of
// codes.
#include "cga/codec_plan.h"

#include <cmath>
#include <random>

#include "cga/sidecar.h"
#include "format/safetensors.h"
#include "support/catch.h"

namespace cga {
namespace {

std::vector<float> falling(std::size_t m, double decay, double first = 1000.0) {
  std::vector<float> variance(m);
  for (std::size_t i = 0; i < m; ++i) {
    variance[i] = static_cast<float>(first * std::exp(-decay * static_cast<double>(i)));
  }
  return variance;
}

std::int64_t total(const std::vector<std::uint8_t>& bits) {
  std::int64_t sum = 0;
  for (const std::uint8_t b : bits) sum += block_components * b;
  return sum;
}

TEST_CASE("bits agree with the Python codec's", "[codec_plan]") {
  for (const std::string name : {"three-layers", "qwen2-mixed"}) {
    const std::string stem = std::string(CGA_VECTORS) + "/codec/" + name;
    const Sidecar sidecar(stem + ".cga");
    const SafetensorsFile vectors{MappedFile(stem + ".safetensors")};
    for (std::size_t g = 0; g < sidecar.groups().size(); ++g) {
      const LatentView& group = sidecar.groups()[g].transform;
      for (const auto& [label, rate] : {std::pair{"r1", 1.0}, {"r15", 1.5}, {"r2", 2.0}}) {
        const Safetensor* expected = vectors.find("group." + std::to_string(g) + ".bits_" + label);
        REQUIRE(expected != nullptr);
        REQUIRE(expected->data.size() == static_cast<std::size_t>(group.m));
        const LatentLayout layout = plan_layout(group, rate);
        for (std::size_t i = 0; i < expected->data.size(); ++i) {
          CHECK(layout.bits()[i / block_components] == std::to_integer<int>(expected->data[i]));
        }
      }
    }
  }
}

TEST_CASE("bits stay within the rate, and grow with it", "[codec_plan]") {
  const auto variance = falling(2304, 0.004);
  std::int64_t before = 0;
  for (double rate = 0; rate < 5; rate += 0.125) {
    const auto bits = plan_bits(variance, 3840, 128, rate);
    CHECK(total(bits) <= static_cast<std::int64_t>(rate * 3840));
    CHECK(total(bits) >= before);
    before = total(bits);
    for (std::size_t i = 0; i < bits.size(); ++i) CHECK(bits[i] <= (i < 2 ? 8 : 4));
  }
  CHECK(before == 2 * 64 * 8 + 34 * 64 * 4);  // enough for everything
}

TEST_CASE("nothing is kept at a rate below one block's first bit", "[codec_plan]") {
  const auto bits = plan_bits(falling(256, 0.01), 256, 64, 63.0 / 256);
  CHECK(total(bits) == 0);
  CHECK(LatentLayout(bits).page_bytes() == 0);
  CHECK(total(plan_bits(falling(256, 0.01), 256, 64, 64.0 / 256)) == 64);
}

TEST_CASE("ties go to the lower block, and a step that does not fit ends a block's growth", "[codec_plan]") {
  const std::vector<float> equal(256, 1.0f);
  CHECK(plan_bits(equal, 256, 256, 0.5) == std::vector<std::uint8_t>{1, 1, 0, 0});
  CHECK(plan_bits(equal, 256, 256, 1.25) == std::vector<std::uint8_t>{2, 1, 1, 1});
  // With 64 bits left, block 0's step from 2 to 4 (128) comes first and does not fit; block 1's first does.
  std::vector<float> steep(128, 1.0f);
  std::fill(steep.begin(), steep.begin() + 64, 100.0f);
  CHECK(plan_bits(steep, 128, 128, 1.5) == std::vector<std::uint8_t>{2, 1});
}

TEST_CASE("blocks lie one behind another, those without bits take nothing", "[codec_plan]") {
  const std::vector<std::uint8_t> bits = {8, 4, 0, 2, 1, 0};
  const LatentLayout layout(bits);
  REQUIRE(layout.blocks().size() == 4);
  CHECK(layout.blocks()[1].unit_offset == 1024);
  CHECK(layout.blocks()[2].unit_offset == 1536);
  CHECK(layout.blocks()[2].first_component == 192);
  CHECK(layout.blocks()[3].unit_offset == 1792);
  CHECK(layout.unit_bytes() == 1920);
  CHECK(layout.page_bytes() == 4 * 1920);
  CHECK(layout.bits_per_token() == 64 * 15);
}

TEST_CASE("random codes survive packing, and fill their bytes exactly", "[codec_plan]") {
  std::mt19937 random(3);
  for (const int bits : {1, 2, 4, 8}) {
    for (int round = 0; round < 200; ++round) {
      std::uint8_t codes[16], unpacked[16];
      for (auto& code : codes) code = static_cast<std::uint8_t>(random() % (1u << bits));
      std::byte packed[18];
      std::fill(std::begin(packed), std::end(packed), std::byte{0xa5});
      pack_codes(codes, bits, packed + 1);
      unpack_codes(packed + 1, bits, unpacked);
      CHECK(std::equal(std::begin(codes), std::end(codes), std::begin(unpacked)));
      CHECK(packed[0] == std::byte{0xa5});
      CHECK(packed[1 + 2 * bits] == std::byte{0xa5});
    }
  }
}

}  // namespace
}  // namespace cga
