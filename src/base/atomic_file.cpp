#include "base/atomic_file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "cga/error.h"

namespace cga {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw Error(ErrorKind::io, path.string(), std::strerror(errno), "check the path and the free space");
}

/// What `path` leads to, if it is a link to something.
std::filesystem::path follow(const std::filesystem::path& path) {
  std::error_code nothing_there;
  const std::filesystem::path target = std::filesystem::canonical(path, nothing_there);
  return std::filesystem::is_symlink(path, nothing_there) && !target.empty() ? target : path;
}

/// Whether `path` can be replaced by another file. A folder cannot, and opening it will say so.
bool is_replaceable(const std::filesystem::path& path) {
  std::error_code nothing_there;
  const std::filesystem::file_status status = std::filesystem::status(path, nothing_there);
  return !std::filesystem::exists(status) || std::filesystem::is_regular_file(status);
}

}  // namespace

AtomicFile::AtomicFile(const std::filesystem::path& path) : path_(follow(path)), temporary_(path_) {
  if (is_replaceable(path_)) temporary_ += ".tmp";
  file_ = std::fopen(temporary_.c_str(), "wb");
  if (file_ == nullptr) fail(temporary_);
}

void AtomicFile::require_writable(const std::filesystem::path& path) {
  std::error_code nothing_there;
  const bool is_other = std::filesystem::is_other(path, nothing_there);
  if (!is_other) AtomicFile{path};  // opening a pipe and closing it again would be seen at its other end
}

AtomicFile::~AtomicFile() {
  if (file_ == nullptr) return;
  std::fclose(file_);
  if (temporary_ == path_) return;
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  if (std::fwrite(bytes.data(), 1, bytes.size(), file_) != bytes.size()) fail(temporary_);
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text)));
}

void AtomicFile::commit() {
  const bool renames = temporary_ != path_;
  if (std::fflush(file_) != 0 || (renames && ::fsync(::fileno(file_)) != 0)) fail(temporary_);
  if (std::fclose(std::exchange(file_, nullptr)) != 0) fail(temporary_);
  if (renames && std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_);
}

}  // namespace cga
