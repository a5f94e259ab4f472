// Normally distributed floats. The same seed gives the same ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace cga::test {

inline std::vector<float> normal(std::size_t n, std::uint32_t seed, float deviation = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> draw(0.0f, deviation);
  std::vector<float> values(n);
  for (float& value : values) value = draw(generator);
  return values;
}

}  // namespace cga::test
