// The comparator itself: each kind of damage must be seen, or the differential tests prove nothing.
#include "support/compare.h"

#include <limits>
#include <vector>

#include "support/catch.h"

using cga::test::compare;
using cga::test::Comparison;

namespace {

std::vector<float> ramp() {
  std::vector<float> values(12);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 5.5f;
  return values;
}

constexpr std::size_t row = 4;

}  // namespace

TEST_CASE("equal outputs agree exactly", "[compare]") {
  const Comparison c = compare(ramp(), ramp(), row);
  CHECK(c.worst_l2 == 0);
  CHECK(c.within(0));
}

TEST_CASE("an injected error fails and is located", "[compare]") {
  std::vector<float> damaged = ramp();
  damaged[6] += 25.0f;
  const Comparison c = compare(damaged, ramp(), row);
  CHECK_FALSE(c.within(1e-2));
  CHECK(c.worst_row == 1);
  CHECK(c.worst_index == 6);
  CHECK(c.actual == damaged[6]);
  CHECK(c.least_cosine < 0.9);
}

TEST_CASE("an error of the size of the tolerance is told from one twice as large", "[compare]") {
  const std::vector<float> expected(row, 1.0f);
  std::vector<float> damaged = expected;
  damaged[2] += 1e-3f;  // relative L2 of the row: 5e-4
  CHECK(compare(damaged, expected, row).within(6e-4));
  CHECK_FALSE(compare(damaged, expected, row).within(4e-4));
}

TEST_CASE("a small row is judged by itself, not drowned by a large one", "[compare]") {
  std::vector<float> expected = ramp();
  for (std::size_t i = 0; i < row; ++i) expected[i] = 1e-6f;
  for (std::size_t i = row; i < expected.size(); ++i) expected[i] *= 1e6f;
  std::vector<float> damaged = expected;
  damaged[1] = -1e-6f;
  CHECK_FALSE(compare(damaged, expected, row).within(1e-2));
}

TEST_CASE("NaN and infinities must stand in the same places", "[compare]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  std::vector<float> a = ramp(), b = ramp();
  a[3] = b[3] = nan;
  a[4] = b[4] = inf;
  CHECK(compare(a, b, row).within(0));
  for (const float wrong : {nan, -inf, 0.0f}) {
    a[4] = wrong;
    CHECK(compare(a, b, row).special_mismatches == 1);
    CHECK_FALSE(compare(a, b, row).within(1));
  }
}

TEST_CASE("anything but zero differs from zero, and shapes must agree", "[compare]") {
  const std::vector<float> zero(row, 0.0f), small(row, 1e-30f), longer(2 * row, 0.0f);
  CHECK(compare(zero, zero, row).within(0));
  CHECK_FALSE(compare(small, zero, row).within(1));
  CHECK_FALSE(compare(longer, zero, row).within(1));
}
