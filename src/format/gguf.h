// GGUF, versions 2 and 3: metadata, tensor descriptions, then the tensors' bytes, all little-endian.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
#pragma once

#include <unordered_map>

#include "base/mapped_file.h"
#include "format/gguf_value.h"
#include "format/model_file.h"

namespace cga {

class GgufFile final : public ModelFile {
 public:
  /// Reads and checks everything but the tensors' bytes, which are not touched.
  /// @throws Error (bad_file) naming file, field, found and expected
  explicit GgufFile(MappedFile file);
  /// The same for bytes in memory, which must outlive this object; `path` is for messages.
  GgufFile(std::filesystem::path path, std::span<const std::byte> bytes);

  int version() const { return version_; }

  const std::filesystem::path& path() const override { return path_; }
  std::span<const FileTensor> tensors() const override { return tensors_; }
  const FileTensor* find(std::string_view name) const override;

  std::optional<std::string> text(std::string_view key) const override;
  std::optional<std::int64_t> integer(std::string_view key) const override;
  std::optional<double> real(std::string_view key) const override;
  std::optional<bool> boolean(std::string_view key) const override;
  std::optional<std::vector<std::string_view>> texts(std::string_view key) const override;
  std::optional<std::vector<std::int64_t>> integers(std::string_view key) const override;
  std::vector<std::pair<std::string, std::string>> describe() const override;

  void release(const FileTensor& tensor) const override;

 private:
  struct Entry {
    std::string_view key;
    GgufValue value;
  };

  void read(std::span<const std::byte> bytes);
  void read_metadata(ByteReader& reader, std::size_t n);
  void read_tensors(ByteReader& reader, std::size_t n);
  std::uint64_t alignment() const;

  const GgufValue* value(std::string_view key) const;
  void expect(std::string_view key, const GgufValue& value, bool fits, std::string_view expected) const;
  std::int64_t checked_integer(std::string_view key, const GgufValue& value, std::size_t i) const;

  std::optional<MappedFile> file_;  // none for bytes in memory
  std::filesystem::path path_;
  int version_ = 0;
  std::vector<Entry> entries_;
  std::vector<FileTensor> tensors_;
  // Keys are views into the file, and into tensors_.
  std::unordered_map<std::string_view, std::size_t> entry_index_, tensor_index_;
};

}  // namespace cga
