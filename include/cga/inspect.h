// What a model file says about itself, without loading it: for any file of a known format, whether its
// architecture is supported or not.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

namespace cga {

struct TensorDescription {
  std::string name;
  std::string type;                 // "Q4_1"
  std::vector<std::int64_t> shape;  // as the file orders it: the contiguous dimension first
  std::int64_t n_values = 0;
  std::int64_t bytes = 0;
};

struct ModelDescription {
  std::vector<std::pair<std::string, std::string>> metadata;  // key, value in one line; file order
  std::vector<TensorDescription> tensors;                     // file order
  std::int64_t file_bytes = 0;
};

/// @throws Error (bad_file, io)
ModelDescription describe_model_file(const std::filesystem::path& path);

}  // namespace cga
