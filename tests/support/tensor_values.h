// A tensor of a vector file as numbers.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "format/safetensors.h"
#include "support/catch.h"

namespace cga::test {

template <class T>
std::vector<T> tensor_values(const SafetensorsFile& file, const std::string& name) {
  const Safetensor* tensor = file.find(name);
  REQUIRE(tensor != nullptr);
  std::vector<T> values(tensor->data.size() / sizeof(T));
  std::memcpy(values.data(), tensor->data.data(), tensor->data.size());
  return values;
}

}  // namespace cga::test
