// A metadata value of a GGUF file: a view of its bytes and their type. Checked when the file is opened, so
// reading it later cannot leave the file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cga {

class ByteReader;

/// gguf_metadata_value_type
enum class GgufType : std::uint32_t {
  uint8 = 0,
  int8 = 1,
  uint16 = 2,
  int16 = 3,
  uint32 = 4,
  int32 = 5,
  float32 = 6,
  boolean = 7,
  string = 8,
  array = 9,
  uint64 = 10,
  int64 = 11,
  float64 = 12,
};

/// One value, or an array of values of one type. A string is a 64-bit length and as many bytes.
struct GgufValue {
  GgufType type = GgufType::uint8;  // of the elements; never array
  bool is_array = false;
  std::size_t n_elements = 1;
  std::span<const std::byte> bytes;  // all elements, as they lie in the file
};

bool is_integer(GgufType type);
bool is_float(GgufType type);

/// Reads type and value. @throws Error (bad_file) for unknown types, arrays of arrays, what the rest of the
/// file cannot hold, booleans other than 0 and 1
GgufValue read_gguf_value(ByteReader& reader);

std::string type_text(const GgufValue& value);  ///< "uint32", "array of string"
std::string show(const GgufValue& value);       ///< one line; arrays as type and length

// The elements. The caller has checked the type.
std::optional<std::int64_t> integer_at(const GgufValue& value, std::size_t i);  ///< nullopt: above int64
double float_at(const GgufValue& value, std::size_t i);
bool boolean_at(const GgufValue& value, std::size_t i);
std::vector<std::string_view> all_texts(const GgufValue& value);

}  // namespace cga
