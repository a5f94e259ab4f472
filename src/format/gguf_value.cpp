// Metadata values: checked once while reading, then decoded from their bytes on demand.
#include "format/gguf_value.h"

#include <cstring>
#include <limits>
#include <sstream>

#include "format/byte_reader.h"

namespace cga {
namespace {

struct TypeInfo {
  std::string_view name;
  std::size_t bytes;  // of an element; for strings the least
};

constexpr TypeInfo type_infos[] = {
    {"uint8", 1},  {"int8", 1},    {"uint16", 2},  {"int16", 2},  {"uint32", 4},
    {"int32", 4},  {"float32", 4}, {"boolean", 1}, {"string", 8}, {"array", 0},
    {"uint64", 8}, {"int64", 8},   {"float64", 8},
};

const TypeInfo& info(GgufType type) {
  return type_infos[static_cast<std::size_t>(type)];
}

GgufType read_type(ByteReader& reader, std::string_view field) {
  const auto id = reader.number<std::uint32_t>(field);
  if (id >= std::size(type_infos)) {
    reader.fail(field, "type " + std::to_string(id),
                "a GGUF value type, 0 to " + std::to_string(std::size(type_infos) - 1));
  }
  return static_cast<GgufType>(id);
}

std::span<const std::byte> read_elements(ByteReader& reader, GgufType type, std::size_t n) {
  // count() has bounded n by the bytes that remain, so the product cannot overflow.
  if (type != GgufType::string) return reader.take(n * info(type).bytes, "value");
  const std::size_t begin = reader.offset();
  for (std::size_t i = 0; i < n; ++i) {
    const auto length = reader.number<std::uint64_t>("string length");
    reader.take(length, "string");
  }
  return reader.bytes().subspan(begin, reader.offset() - begin);
}

void check_booleans(const ByteReader& reader, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    const auto value = std::to_integer<unsigned>(byte);
    if (value > 1) reader.fail("value", "boolean " + std::to_string(value), "0 or 1");
  }
}

template <class T>
T load(const GgufValue& value, std::size_t i) {
  T element;
  std::memcpy(&element, value.bytes.data() + i * sizeof(T), sizeof(T));
  return element;
}

}  // namespace

bool is_integer(GgufType type) {
  return type <= GgufType::int32 || type == GgufType::uint64 || type == GgufType::int64;
}

bool is_float(GgufType type) {
  return type == GgufType::float32 || type == GgufType::float64;
}

GgufValue read_gguf_value(ByteReader& reader) {
  GgufValue value;
  value.type = read_type(reader, "value type");
  value.is_array = value.type == GgufType::array;
  if (value.is_array) {
    value.type = read_type(reader, "element type");
    if (value.type == GgufType::array) {
      reader.fail("element type", "an array of arrays", "an array of numbers, booleans or strings",
                  "convert the model again without this key");
    }
    value.n_elements = reader.count(info(value.type).bytes, "array length");
  }
  value.bytes = read_elements(reader, value.type, value.n_elements);
  if (value.type == GgufType::boolean) check_booleans(reader, value.bytes);
  return value;
}

std::string type_text(const GgufValue& value) {
  return (value.is_array ? "array of " : "") + std::string(info(value.type).name);
}

std::string show(const GgufValue& value) {
  if (value.is_array) return type_text(value) + ", " + std::to_string(value.n_elements) + " elements";
  if (value.type == GgufType::string) return printable(all_texts(value).front());
  if (value.type == GgufType::boolean) return boolean_at(value, 0) ? "true" : "false";
  if (value.type == GgufType::uint64) return std::to_string(load<std::uint64_t>(value, 0));
  if (is_integer(value.type)) return std::to_string(*integer_at(value, 0));
  std::ostringstream text;
  text.precision(value.type == GgufType::float32 ? 7 : 15);
  text << float_at(value, 0);
  return text.str();
}

std::optional<std::int64_t> integer_at(const GgufValue& value, std::size_t i) {
  switch (value.type) {
    case GgufType::uint8:
      return load<std::uint8_t>(value, i);
    case GgufType::int8:
      return load<std::int8_t>(value, i);
    case GgufType::uint16:
      return load<std::uint16_t>(value, i);
    case GgufType::int16:
      return load<std::int16_t>(value, i);
    case GgufType::uint32:
      return load<std::uint32_t>(value, i);
    case GgufType::int32:
      return load<std::int32_t>(value, i);
    case GgufType::int64:
      return load<std::int64_t>(value, i);
    case GgufType::uint64: {
      const auto wide = load<std::uint64_t>(value, i);
      if (wide > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
      return static_cast<std::int64_t>(wide);
    }
    default:
      return std::nullopt;
  }
}

double float_at(const GgufValue& value, std::size_t i) {
  return value.type == GgufType::float32 ? double{load<float>(value, i)} : load<double>(value, i);
}

bool boolean_at(const GgufValue& value, std::size_t i) {
  return load<std::uint8_t>(value, i) != 0;
}

std::vector<std::string_view> all_texts(const GgufValue& value) {
  std::vector<std::string_view> texts;
  texts.reserve(value.n_elements);
  const std::byte* at = value.bytes.data();
  for (std::size_t i = 0; i < value.n_elements; ++i) {
    std::uint64_t length;
    std::memcpy(&length, at, sizeof length);
    texts.emplace_back(reinterpret_cast<const char*>(at + sizeof length), length);
    at += sizeof length + length;
  }
  return texts;
}

}  // namespace cga
