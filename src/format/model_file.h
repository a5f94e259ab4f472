// What every model file format gives: named tensors and typed metadata, all bounds checked.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cga {

/// A tensor of a file. Its type stays a name: what can be computed with is not the format's business.
struct FileTensor {
  std::string name;
  std::uint32_t type_id = 0;   // the format's number of the type (ggml_type)
  std::string_view type_name;  // "Q4_1"
  // [cols, rows, …] as GGUF orders them: the contiguous dimension first; 1 from n_dims on
  std::array<std::int64_t, 4> shape{};
  int n_dims = 0;
  std::span<const std::byte> data;  // inside the mapped file
};

/// A validated model file. Metadata getters return nullopt for a missing key and throw Error (bad_file)
/// naming file, key, found type and expected type for one of another type or out of range.
class ModelFile {
 public:
  virtual ~ModelFile() = default;

  virtual const std::filesystem::path& path() const = 0;
  virtual std::span<const FileTensor> tensors() const = 0;
  virtual const FileTensor* find(std::string_view name) const = 0;

  virtual std::optional<std::string> text(std::string_view key) const = 0;
  virtual std::optional<std::int64_t> integer(std::string_view key) const = 0;  // any integer type that fits
  virtual std::optional<double> real(std::string_view key) const = 0;           // floats and integers
  virtual std::optional<bool> boolean(std::string_view key) const = 0;
  /// Views into the file; valid as long as the file.
  virtual std::optional<std::vector<std::string_view>> texts(std::string_view key) const = 0;
  virtual std::optional<std::vector<std::int64_t>> integers(std::string_view key) const = 0;

  /// Every key with a one-line rendering of its value (arrays: type and length), for `cga inspect`.
  virtual std::vector<std::pair<std::string, std::string>> describe() const = 0;

  /// Tells the system that a tensor's bytes were copied and need not stay in memory.
  virtual void release(const FileTensor& tensor) const = 0;
};

/// Opens a model file by its magic number. @throws Error (bad_file, io)
std::unique_ptr<ModelFile> open_model_file(const std::filesystem::path& path);

}  // namespace cga
