// Writes small safetensors files for tests: metadata and tensors in, bytes out. Headers can also be given as
// text, so that wrong files can be made too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cga::test {

/// Length, header and data, as they follow each other in a file.
inline std::vector<std::byte> safetensors_bytes(std::string_view header, std::span<const std::byte> data) {
  std::vector<std::byte> bytes(8 + header.size() + data.size());
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  std::memcpy(bytes.data() + 8, header.data(), header.size());
  if (!data.empty()) std::memcpy(bytes.data() + 8 + header.size(), data.data(), data.size());
  return bytes;
}

class SafetensorsWriter {
 public:
  /// @param value  without quotes and backslashes, or escaped already
  SafetensorsWriter& set(std::string_view key, std::string_view value) {
    metadata_ += (metadata_.empty() ? "" : ",") + quote(key) + ":" + quote(value);
    return *this;
  }

  SafetensorsWriter& add(std::string_view name, std::string_view dtype,
                         const std::vector<std::int64_t>& shape, std::span<const std::byte> data) {
    std::string dims;
    for (const std::int64_t size : shape) dims += (dims.empty() ? "" : ",") + std::to_string(size);
    tensors_ += "," + quote(name) + ":{\"dtype\":" + quote(dtype) + ",\"shape\":[" + dims +
                "],\"data_offsets\":[" + std::to_string(data_.size()) + "," +
                std::to_string(data_.size() + data.size()) + "]}";
    data_.insert(data_.end(), data.begin(), data.end());
    return *this;
  }

  template <class T>
  SafetensorsWriter& add(std::string_view name, std::string_view dtype,
                         const std::vector<std::int64_t>& shape, const std::vector<T>& values) {
    return add(name, dtype, shape, std::as_bytes(std::span(values)));
  }

  std::vector<std::byte> bytes() const {
    std::string header = "{\"__metadata__\":{" + metadata_ + "}" + tensors_ + "}";
    header.resize((header.size() + 7) / 8 * 8, ' ');
    return safetensors_bytes(header, data_);
  }

 private:
  static std::string quote(std::string_view text) { return '"' + std::string(text) + '"'; }

  std::string metadata_, tensors_;
  std::vector<std::byte> data_;
};

}  // namespace cga::test
