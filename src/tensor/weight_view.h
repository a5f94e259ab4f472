// A weight as it lies in a file: a matrix (or vector) of blocks, not owned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "quant/weight_type.h"

namespace cga {

struct WeightView {
  std::string name;  // as the file calls it, for messages
  const WeightType* type = nullptr;
  std::int64_t rows = 0, cols = 0;  // a vector has one row
  const std::byte* data = nullptr;  // [rows, cols], blocks of `type` along cols

  std::int64_t row_bytes() const { return type->row_bytes(cols); }
  std::int64_t bytes() const { return rows * row_bytes(); }
  const std::byte* row(std::int64_t r) const { return data + r * row_bytes(); }
};

}  // namespace cga
