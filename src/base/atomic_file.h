// Output files appear whole or not at all: written under a temporary name, synced, renamed. What is no file
// but a device or a pipe (/dev/null, /dev/stdout) cannot be replaced and is written to as it is.
#pragma once

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string_view>

namespace cga {

class AtomicFile {
 public:
  /// Opens `<path>.tmp` for writing; a link is followed first. @throws Error (io)
  explicit AtomicFile(const std::filesystem::path& path);

  /// For asking before work begins whether its result can be kept. @throws Error (io)
  static void require_writable(const std::filesystem::path& path);
  ~AtomicFile();  ///< removes the temporary file unless commit() succeeded
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);  ///< @throws Error (io)
  void write(std::string_view text);             ///< @throws Error (io)
  void commit();                                 ///< @throws Error (io)

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;  // path_ itself for a device or a pipe
  std::FILE* file_ = nullptr;
};

}  // namespace cga
