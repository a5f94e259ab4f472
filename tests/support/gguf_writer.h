// Writes small GGUF files for tests: metadata and tensors in, bytes out. Nothing is checked, so that wrong
// files can be made too.
//
//   GgufWriter writer;
//   writer.set("general.architecture", "llama").set("llama.block_count", std::uint32_t{2});
//   writer.add_tensor("output_norm.weight", {64}, 0, std::as_bytes(std::span(norm)));
//   writer.write(path);
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace cga::test {

class GgufWriter {
 public:
  explicit GgufWriter(std::uint32_t version = 3) : version_(version) {}

  /// Numbers and bool, as the GGUF type of the same name; vectors of them; strings and vectors of strings.
  template <class T>
  GgufWriter& set(std::string_view key, const T& value) {
    begin(key);
    if constexpr (std::is_arithmetic_v<T>) {
      put_number(metadata_, type_id<T>());
      put_number(metadata_, value);
    } else {
      put_number(metadata_, std::uint32_t{8});
      put_text(metadata_, std::string_view(value));
    }
    if (key == "general.alignment") alignment_ = as_alignment(value);
    return *this;
  }

  template <class T>
  GgufWriter& set(std::string_view key, const std::vector<T>& values) {
    begin(key);
    put_number(metadata_, std::uint32_t{9});
    if constexpr (std::is_arithmetic_v<T>) {
      put_number(metadata_, type_id<T>());
    } else {
      put_number(metadata_, std::uint32_t{8});
    }
    put_number(metadata_, static_cast<std::uint64_t>(values.size()));
    for (const auto& value : values) {
      if constexpr (std::is_arithmetic_v<T>) {
        put_number(metadata_, value);
      } else {
        put_text(metadata_, value);
      }
    }
    return *this;
  }

  /// @param dims   contiguous dimension first, as in the file: a matrix is {cols, rows}
  /// @param type   ggml_type
  GgufWriter& add_tensor(std::string_view name, const std::vector<std::int64_t>& dims, std::uint32_t type,
                         std::span<const std::byte> data) {
    put_text(descriptions_, name);
    put_number(descriptions_, static_cast<std::uint32_t>(dims.size()));
    for (const std::int64_t dim : dims) put_number(descriptions_, dim);
    put_number(descriptions_, type);
    pad(data_);
    put_number(descriptions_, static_cast<std::uint64_t>(data_.size()));
    data_.insert(data_.end(), data.begin(), data.end());
    ++n_tensors_;
    return *this;
  }

  std::vector<std::byte> bytes() const {
    std::vector<std::byte> file;
    for (const char c : {'G', 'G', 'U', 'F'}) file.push_back(static_cast<std::byte>(c));
    put_number(file, version_);
    put_number(file, n_tensors_);
    put_number(file, n_keys_);
    file.insert(file.end(), metadata_.begin(), metadata_.end());
    file.insert(file.end(), descriptions_.begin(), descriptions_.end());
    pad(file);
    file.insert(file.end(), data_.begin(), data_.end());
    return file;
  }

  void write(const std::filesystem::path& path) const {
    const std::vector<std::byte> file = bytes();
    std::ofstream stream(path, std::ios::binary);
    stream.exceptions(std::ios::failbit | std::ios::badbit);
    stream.write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
    stream.close();
  }

 private:
  template <class T>
  static constexpr std::uint32_t type_id() {
    if constexpr (std::is_same_v<T, bool>) return 7;
    if constexpr (std::is_same_v<T, float>) return 6;
    if constexpr (std::is_same_v<T, double>) return 12;
    constexpr bool is_signed = std::is_signed_v<T>;
    if constexpr (sizeof(T) == 1) return is_signed ? 1 : 0;
    if constexpr (sizeof(T) == 2) return is_signed ? 3 : 2;
    if constexpr (sizeof(T) == 4) return is_signed ? 5 : 4;
    return is_signed ? 11 : 10;
  }

  template <class T>
  static std::size_t as_alignment(const T& value) {
    if constexpr (std::is_integral_v<T>) {
      if (value > 0) return static_cast<std::size_t>(value);
    }
    return 1;
  }

  template <class T>
  static void put_number(std::vector<std::byte>& out, T value) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&value);
    out.insert(out.end(), bytes, bytes + sizeof value);
  }

  static void put_text(std::vector<std::byte>& out, std::string_view text) {
    put_number(out, static_cast<std::uint64_t>(text.size()));
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    out.insert(out.end(), bytes, bytes + text.size());
  }

  void pad(std::vector<std::byte>& out) const {
    out.resize((out.size() + alignment_ - 1) / alignment_ * alignment_);
  }

  void begin(std::string_view key) {
    put_text(metadata_, key);
    ++n_keys_;
  }

  std::uint32_t version_;
  std::size_t alignment_ = 32;
  std::uint64_t n_tensors_ = 0, n_keys_ = 0;
  std::vector<std::byte> metadata_, descriptions_, data_;
};

}  // namespace cga::test
