// The JSON header of a safetensors file, read strictly: exactly the members the format has, each once,
// nothing nested deeper. What the numbers mean together (bytes, places) is for safetensors.cpp to check.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cga {

struct SafetensorsHeader {
  struct Text {
    std::string key, value;
  };
  struct Tensor {
    std::string name, dtype;
    std::vector<std::uint64_t> shape, data_offsets;
    bool has_dtype = false, has_shape = false, has_offsets = false;
  };

  std::vector<Text> metadata;   // in the file's order
  std::vector<Tensor> tensors;  // likewise; names are unique, dtype, shape and both offsets are there
};

/// @param file  its name, for messages
/// @throws Error (bad_file) naming the member at fault
SafetensorsHeader read_safetensors_header(std::string_view json, const std::string& file);

}  // namespace cga
