// safetensors: a JSON header that names tensors (type, shape, place), then their bytes, all little-endian.
// https://github.com/huggingface/safetensors
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/mapped_file.h"
#include "format/safetensors_header.h"

namespace cga {

/// A tensor of a file, row-major: the last dimension is contiguous.
struct Safetensor {
  std::string name;
  std::string_view dtype;           // "F32", as the file spells it
  std::int64_t element_bytes = 0;   // of one value
  std::vector<std::int64_t> shape;  // may be empty (a scalar) and may hold zeros (no bytes)
  std::span<const std::byte> data;  // inside the mapped file; not necessarily aligned to its elements
};

class SafetensorsFile {
 public:
  /// Reads and checks everything but the tensors' bytes, which are not touched.
  /// @throws Error (bad_file) naming file, field, found and expected
  explicit SafetensorsFile(MappedFile file);
  /// The same for bytes in memory, which must outlive this object; `path` is for messages.
  SafetensorsFile(std::filesystem::path path, std::span<const std::byte> bytes);

  SafetensorsFile(SafetensorsFile&&) = default;
  SafetensorsFile& operator=(SafetensorsFile&&) = default;

  const std::filesystem::path& path() const { return path_; }
  std::span<const Safetensor> tensors() const { return tensors_; }  // in the order of their bytes
  const Safetensor* find(std::string_view name) const;

  /// A value of `__metadata__`; nullptr if there is none of that name.
  const std::string* metadata(std::string_view key) const;
  std::span<const SafetensorsHeader::Text> metadata() const { return metadata_; }

 private:
  void read(std::span<const std::byte> bytes);

  std::optional<MappedFile> file_;  // none for bytes in memory
  std::filesystem::path path_;
  std::vector<SafetensorsHeader::Text> metadata_;
  std::vector<Safetensor> tensors_;
  std::unordered_map<std::string_view, std::size_t> index_;  // keys are views into tensors_
};

}  // namespace cga
