// The tensor types a GGUF file may hold, by number. Sizes of all are known, computable or not, so that a file
// can be checked whole and a type that cannot be used is called by its name.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace cga {

struct GgmlType {
  std::uint32_t id = 0;
  std::string_view name;
  std::int64_t block_values = 0;  // 0: removed from the format
  std::int64_t block_bytes = 0;
};

std::span<const GgmlType> ggml_types();

/// @return nullptr for a number that means nothing here
const GgmlType* find_ggml_type(std::uint32_t id);

}  // namespace cga
