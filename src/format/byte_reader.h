// Reads a file's bytes front to back. Every step is checked against the end, so that a parser built on it
// cannot leave the file, and every refusal knows what was being read.
#pragma once

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "format/refusal.h"

namespace cga {

static_assert(std::endian::native == std::endian::little, "model files are little-endian and read in place");

class ByteReader {
 public:
  /// @param file  its name, for messages
  ByteReader(std::span<const std::byte> bytes, std::string file);

  std::size_t offset() const { return offset_; }
  std::size_t remaining() const { return bytes_.size() - offset_; }
  std::span<const std::byte> bytes() const { return bytes_; }

  /// Names the part of the file that is read from now on ("key general.name"); "" for the header.
  void enter(std::string section) { section_ = std::move(section); }

  /// A little-endian integer or float. @throws Error (bad_file) at the end of the file, like all that follow
  template <class T>
  requires std::integral<T> || std::floating_point<T> T number(std::string_view field) {
    T value;
    std::memcpy(&value, take(sizeof(T), field).data(), sizeof(T));
    return value;
  }

  /// A 64-bit number of things to come, of which each takes at least `min_bytes`: refused if the rest of the
  /// file cannot hold them, so that memory may be reserved for as many.
  std::size_t count(std::size_t min_bytes, std::string_view field);

  std::span<const std::byte> take(std::uint64_t n_bytes, std::string_view field) {
    if (n_bytes > remaining()) refuse_short(n_bytes, field);
    const std::size_t begin = offset_;
    offset_ += static_cast<std::size_t>(n_bytes);
    return bytes_.subspan(begin, static_cast<std::size_t>(n_bytes));
  }

  std::string_view text(std::uint64_t n_bytes, std::string_view field) {
    const auto taken = take(n_bytes, field);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }

  /// Refuses the file; the field is named within the current section.
  [[noreturn]] void fail(std::string_view field, std::string_view found, std::string_view expected,
                         std::string_view remedy = fetch_again) const;

 private:
  [[noreturn]] void refuse_short(std::uint64_t n_bytes, std::string_view field) const;

  std::span<const std::byte> bytes_;
  std::string file_, section_;
  std::size_t offset_ = 0;
};

}  // namespace cga
