// A small valid GGUF file with every kind of value, and tools to look at and damage it.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <string_view>

#include "format/gguf.h"
#include "support/catch.h"
#include "support/gguf_writer.h"

namespace cga::test {

using Bytes = std::vector<std::byte>;

/// Two tensors; the last one ends where the file ends, so that no byte can be missing.
inline GgufWriter sample_writer() {
  Bytes data(80);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i);
  GgufWriter writer;
  writer.set("general.architecture", "llama")
      .set("general.name", "tiny\nmodel")
      .set("a.uint8", std::uint8_t{200})
      .set("a.int8", std::int8_t{-100})
      .set("a.uint16", std::uint16_t{60000})
      .set("a.int16", std::int16_t{-30000})
      .set("a.uint32", std::uint32_t{4000000000u})
      .set("a.int32", std::int32_t{-2000000000})
      .set("a.uint64", std::uint64_t{1} << 40)
      .set("a.int64", -(std::int64_t{1} << 40))
      .set("a.huge", std::numeric_limits<std::uint64_t>::max())
      .set("a.float32", 1e-5f)
      .set("a.float64", 0.1)
      .set("a.flag", true)
      .set("a.numbers", std::vector<std::int32_t>{3, -1, 7})
      .set("a.texts", std::vector<std::string>{"", "Ġhello", "x"})
      .set("a.none", std::vector<std::string>{});
  writer.add_tensor("blk.0.weight", {64, 2}, 3, data);  // Q4_1
  writer.add_tensor("norm.weight", {8}, 0, std::span(data).first(32));
  return writer;
}

/// Reads a copy in a buffer of exactly its size, so that sanitizers see a step beyond the end.
class LoadedCopy {
 public:
  explicit LoadedCopy(const Bytes& bytes)
      : bytes_(std::make_unique<std::byte[]>(bytes.size())), size_(bytes.size()) {
    std::copy(bytes.begin(), bytes.end(), bytes_.get());
    file_.emplace("sample.gguf", std::span<const std::byte>(bytes_.get(), size_));
  }
  const GgufFile* operator->() const { return &*file_; }
  const GgufFile& operator*() const { return *file_; }
  std::span<const std::byte> bytes() const { return {bytes_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::size_t size_;
  std::optional<GgufFile> file_;
};

/// The position just behind the first occurrence of `text`.
inline std::size_t behind(const Bytes& bytes, std::string_view text) {
  const auto* begin = reinterpret_cast<const std::byte*>(text.data());
  const auto found = std::search(bytes.begin(), bytes.end(), begin, begin + text.size());
  REQUIRE(found != bytes.end());
  return static_cast<std::size_t>(found - bytes.begin()) + text.size();
}

template <class T>
void overwrite(Bytes& bytes, std::size_t at, T value) {
  REQUIRE(at + sizeof value <= bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

}  // namespace cga::test
