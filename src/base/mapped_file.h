// A file's bytes, mapped read-only: nothing is copied, and pages that are not touched are not read.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace cga {

class MappedFile {
 public:
  /// @throws Error (io) naming the path if it cannot be opened, is no regular file or is empty
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const std::filesystem::path& path() const { return path_; }

  /// Tells the system that these bytes were copied elsewhere, so that they no longer count as used memory.
  void release(std::span<const std::byte> part) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace cga
