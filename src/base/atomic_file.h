// Output files appear whole or not at all: written under a temporary name, synced, renamed.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string_view>

namespace cga {

class AtomicFile {
 public:
  /// Opens `<path>.tmp` for writing. @throws Error (io)
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();  ///< removes the temporary file unless commit() succeeded
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);  ///< @throws Error (io)
  void write(std::string_view text);             ///< @throws Error (io)
  void commit();                                 ///< @throws Error (io)

 private:
  std::filesystem::path path_, temporary_;
  std::FILE* file_ = nullptr;
};

}  // namespace cga
