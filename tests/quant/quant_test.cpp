// Weight types against what the Python package gguf reads from the same blocks (tests/vectors/make_quant.py),
// against their own integer form, and against what they encode.
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "quant/weight_type.h"
#include "support/catch.h"

namespace cga {
namespace {

std::string lower(std::string_view name) {
  std::string text(name);
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

struct Vectors {
  std::int64_t n_blocks = 0;
  std::vector<std::byte> blocks;
  std::vector<float> values;  // [n_blocks * block_values]
};

Vectors read_vectors(const WeightType& type) {
  std::ifstream file(std::string(CGA_VECTORS) + "/quant/" + lower(type.name) + ".bin", std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  const auto block_bytes = static_cast<std::size_t>(type.block_bytes);
  const auto block_values = static_cast<std::size_t>(type.block_values);
  const std::size_t n = bytes.size() / (block_bytes + 4 * block_values);
  REQUIRE(n > 0);
  REQUIRE(n * (block_bytes + 4 * block_values) == bytes.size());
  Vectors vectors{static_cast<std::int64_t>(n), std::vector<std::byte>(n * block_bytes),
                  std::vector<float>(n * block_values)};
  std::memcpy(vectors.blocks.data(), bytes.data(), n * block_bytes);
  std::memcpy(vectors.values.data(), bytes.data() + n * block_bytes, 4 * n * block_values);
  return vectors;
}

std::uint32_t bits(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

/// Gaussian values with a shift of their own for every 32, as in no real matrix but harder.
std::vector<float> sample_values(std::size_t n, float shift) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, 0.02f);
  std::vector<float> values(n);
  float centre = 0.0f;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % 32 == 0) centre = shift * normal(random);
    values[i] = centre + normal(random);
  }
  return values;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& expected) {
  double error = 0, norm = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - double{expected[i]}, 2);
    norm += std::pow(double{expected[i]}, 2);
  }
  return std::sqrt(error / norm);
}

std::vector<float> through_codes(const WeightType& type, const std::vector<float>& values) {
  const auto n_blocks = static_cast<std::int64_t>(values.size()) / type.block_values;
  std::vector<std::byte> blocks(static_cast<std::size_t>(n_blocks * type.block_bytes));
  std::vector<float> out(values.size());
  type.encode(values.data(), n_blocks, blocks.data());
  type.decode(blocks.data(), n_blocks, out.data());
  return out;
}

TEST_CASE("the registry holds the eleven types, by id and by name") {
  const std::vector<std::pair<const char*, std::uint32_t>> expected = {
      {"F32", 0},  {"F16", 1},   {"Q4_0", 2},  {"Q4_1", 3},  {"Q5_0", 6}, {"Q5_1", 7},
      {"Q8_0", 8}, {"Q4_K", 12}, {"Q5_K", 13}, {"Q6_K", 14}, {"BF16", 30}};
  CHECK(weight_types().size() == expected.size());
  for (const auto& [name, id] : expected) {
    INFO(name);
    const WeightType* type = find_weight_type(id);
    REQUIRE(type != nullptr);
    CHECK(type->name == name);
    CHECK(find_weight_type(name) == type);
    CHECK((type->codes != nullptr) == (type->integer.bits > 0));
  }
  CHECK(find_weight_type(9) == nullptr);
  CHECK(find_weight_type("Q8_1") == nullptr);
}

TEST_CASE("decoding equals the gguf package bit for bit") {
  for (const WeightType* type : weight_types()) {
    INFO(type->name);
    const Vectors vectors = read_vectors(*type);
    std::vector<float> out(vectors.values.size());
    type->decode(vectors.blocks.data(), vectors.n_blocks, out.data());
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < out.size(); ++i) wrong += bits(out[i]) != bits(vectors.values[i]);
    CHECK(wrong == 0);
  }
}

TEST_CASE("the integer form gives the decoded values") {
  for (const WeightType* type : weight_types()) {
    if (type->codes == nullptr) continue;
    INFO(type->name);
    const IntegerForm form = type->integer;
    const Vectors vectors = read_vectors(*type);
    const auto n_values = static_cast<std::size_t>(type->block_values);
    const std::size_t n_groups = n_values / static_cast<std::size_t>(form.group);
    std::vector<std::uint8_t> q(n_values);
    std::vector<float> scale(n_groups), min(n_groups);
    std::size_t wrong = 0, out_of_range = 0, unexpected_min = 0;
    for (std::size_t b = 0; b < static_cast<std::size_t>(vectors.n_blocks); ++b) {
      type->codes(vectors.blocks.data() + b * static_cast<std::size_t>(type->block_bytes), q.data(),
                  scale.data(), min.data());
      for (std::size_t i = 0; i < n_values; ++i) {
        const std::size_t g = i / static_cast<std::size_t>(form.group);
        const float value = scale[g] * static_cast<float>(q[i] - form.zero) - min[g];
        wrong += value != vectors.values[b * n_values + i];
        out_of_range += q[i] >= (1 << form.bits);
        unexpected_min += !form.has_min && min[g] != 0.0f;
      }
    }
    CHECK(wrong == 0);
    CHECK(out_of_range == 0);
    CHECK(unexpected_min == 0);
  }
}

// Root mean square error over root mean square value. A uniform quantiser with 2^b levels over a range of
// about 4 standard deviations has 4 / 2^b / sqrt(12) = 7 % at 4 bits, and half of it for each bit more.
TEST_CASE("encoding stays within the error its bits allow") {
  struct Bound {
    const char* name;
    double centred, shifted;
  };
  const std::vector<Bound> bounds = {{"F32", 0, 0},         {"F16", 3e-4, 3e-4},    {"BF16", 2.5e-3, 2.5e-3},
                                     {"Q4_0", 0.09, 0.065}, {"Q4_1", 0.08, 0.04},   {"Q5_0", 0.045, 0.033},
                                     {"Q5_1", 0.04, 0.02},  {"Q8_0", 0.007, 0.007}, {"Q4_K", 0.08, 0.06},
                                     {"Q5_K", 0.04, 0.04},  {"Q6_K", 0.021, 0.021}};
  REQUIRE(bounds.size() == weight_types().size());
  for (const Bound& bound : bounds) {
    INFO(bound.name);
    const WeightType* type = find_weight_type(bound.name);
    REQUIRE(type != nullptr);
    const std::vector<float> centred = sample_values(256 * 64, 0.0f);
    const std::vector<float> shifted = sample_values(256 * 64, 2.0f);
    UNSCOPED_INFO(relative_error(through_codes(*type, centred), centred));
    UNSCOPED_INFO(relative_error(through_codes(*type, shifted), shifted));
    CHECK(relative_error(through_codes(*type, centred), centred) <= bound.centred);
    CHECK(relative_error(through_codes(*type, shifted), shifted) <= bound.shifted);
  }
}

TEST_CASE("constant and zero blocks survive encoding") {
  for (const WeightType* type : weight_types()) {
    INFO(type->name);
    for (const float constant : {0.0f, 0.25f, -0.25f, 1e-12f}) {
      INFO(constant);
      const std::vector<float> values(256, constant);
      for (const float value : through_codes(*type, values)) {
        // 1e-12 is below the smallest f16 scale: nothing but zero can stand for it.
        REQUIRE(std::fabs(value - constant) <= 0.005f * std::fabs(constant) + 1e-12f);
      }
    }
  }
}

TEST_CASE("encoding picks the nearest code for the scale it stores") {
  for (const WeightType* type : weight_types()) {
    if (type->codes == nullptr) continue;
    INFO(type->name);
    const std::vector<float> values = sample_values(256, 1.0f);
    const auto n_values = static_cast<std::size_t>(type->block_values);
    const auto group = static_cast<std::size_t>(type->integer.group);
    std::vector<std::byte> block(static_cast<std::size_t>(type->block_bytes));
    std::vector<std::uint8_t> q(n_values);
    std::vector<float> scale(n_values / group), min(n_values / group);
    type->encode(values.data(), 1, block.data());
    type->codes(block.data(), q.data(), scale.data(), min.data());
    const int top = (1 << type->integer.bits) - 1;
    std::size_t beaten = 0;
    for (std::size_t i = 0; i < n_values; ++i) {
      const auto error_of = [&](int code) {
        return std::fabs(scale[i / group] * static_cast<float>(code - type->integer.zero) - min[i / group] -
                         values[i]);
      };
      const float slack = 1e-5f * std::fabs(scale[i / group]);
      if (q[i] > 0) beaten += error_of(q[i] - 1) < error_of(q[i]) - slack;
      if (q[i] < top && type->name != "Q8_0") beaten += error_of(q[i] + 1) < error_of(q[i]) - slack;
    }
    CHECK(beaten == 0);
  }
}

}  // namespace
}  // namespace cga
