// Checks of a safetensors file beyond its header's syntax: types, shapes, and that the tensors' bytes fill
// the rest of the file exactly, each byte belonging to one of them.
#include "format/safetensors.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/checked.h"
#include "format/byte_reader.h"

namespace cga {
namespace {

/// Far above what tensors of real files need, and little enough to parse without thinking about memory.
constexpr std::uint64_t max_header_bytes = std::uint64_t{16} << 20;

struct Dtype {
  std::string_view name;
  std::int64_t bytes;
};
constexpr Dtype dtypes[] = {{"F32", 4},  {"F16", 2}, {"BF16", 2},    {"F64", 8},    {"I8", 1},  {"U8", 1},
                            {"I16", 2},  {"U16", 2}, {"I32", 4},     {"U32", 4},    {"I64", 8}, {"U64", 8},
                            {"BOOL", 1}, {"C64", 8}, {"F8_E5M2", 1}, {"F8_E4M3", 1}};

struct Placed {
  Safetensor tensor;
  std::uint64_t begin = 0, end = 0;  // in the data section
};

std::string section(std::string_view name) {
  return "tensor " + printable(name);
}

std::string_view read_header_text(ByteReader& reader) {
  const auto length = reader.number<std::uint64_t>("header length");
  if (length > max_header_bytes) {
    reader.fail("header length", std::to_string(length), "at most " + std::to_string(max_header_bytes),
                "check that this is a safetensors file, or fetch it again");
  }
  return reader.text(length, "header");
}

const Dtype& find_dtype(ByteReader& reader, const std::string& name) {
  const auto found = std::find_if(std::begin(dtypes), std::end(dtypes),
                                  [&](const Dtype& dtype) { return dtype.name == name; });
  if (found == std::end(dtypes))
    reader.fail("dtype", cga::quoted(name), "a type of the format, such as \"F32\"");
  return *found;
}

/// Bytes of a shape; 0 if a dimension is.
std::uint64_t bytes_of(ByteReader& reader, const std::vector<std::uint64_t>& shape, std::int64_t element) {
  constexpr auto most = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  auto bytes = static_cast<std::uint64_t>(element);
  for (const std::uint64_t size : shape) {
    const auto product = checked_mul(bytes, size);
    if (size > most || !product || *product > most) {
      reader.fail("shape", "more than 2^63 - 1 bytes", "a tensor that fits the file");
    }
    bytes = *product;
  }
  return bytes;
}

Placed place(ByteReader& reader, SafetensorsHeader::Tensor& described, std::span<const std::byte> data) {
  reader.enter(section(described.name));
  const Dtype& dtype = find_dtype(reader, described.dtype);
  const std::uint64_t n_bytes = bytes_of(reader, described.shape, dtype.bytes);
  const std::uint64_t begin = described.data_offsets[0], end = described.data_offsets[1];
  if (begin > end || end > data.size()) {
    reader.fail("data_offsets", "[" + std::to_string(begin) + ", " + std::to_string(end) + "]",
                "a range within the " + std::to_string(data.size()) + " bytes of data the file has");
  }
  if (end - begin != n_bytes) {
    reader.fail("data_offsets", std::to_string(end - begin) + " bytes",
                std::to_string(n_bytes) + ", which its shape and type take");
  }
  Placed placed{
      .tensor = {.name = std::move(described.name),
                 .dtype = dtype.name,
                 .element_bytes = dtype.bytes,
                 .shape = {described.shape.begin(), described.shape.end()},
                 .data = data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n_bytes))},
      .begin = begin,
      .end = end};
  return placed;
}

/// The tensors, in order of their bytes, begin where the one before ends, and the last ends with the file.
void check_filled(ByteReader& reader, std::span<const Placed> tensors, std::uint64_t n_bytes) {
  std::uint64_t expected = 0;
  for (const Placed& placed : tensors) {
    if (placed.begin != expected) {
      reader.enter(section(placed.tensor.name));
      reader.fail("data_offsets", "a beginning at " + std::to_string(placed.begin),
                  std::to_string(expected) + ", where the bytes before it end");
    }
    expected = placed.end;
  }
  if (expected != n_bytes) {
    reader.enter("");
    reader.fail("data", std::to_string(n_bytes) + " bytes",
                std::to_string(expected) + ", which the tensors take");
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(MappedFile file) : file_(std::move(file)), path_(file_->path()) {
  read(file_->bytes());
}

SafetensorsFile::SafetensorsFile(std::filesystem::path path, std::span<const std::byte> bytes)
    : path_(std::move(path)) {
  read(bytes);
}

void SafetensorsFile::read(std::span<const std::byte> bytes) {
  ByteReader reader(bytes, path_.string());
  SafetensorsHeader header = read_safetensors_header(read_header_text(reader), path_.string());
  metadata_ = std::move(header.metadata);
  const auto data = bytes.subspan(reader.offset());
  std::vector<Placed> placed;
  placed.reserve(header.tensors.size());
  for (SafetensorsHeader::Tensor& described : header.tensors) {
    placed.push_back(place(reader, described, data));
  }
  std::sort(placed.begin(), placed.end(), [](const Placed& a, const Placed& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  check_filled(reader, placed, data.size());
  tensors_.reserve(placed.size());
  for (Placed& one : placed) tensors_.push_back(std::move(one.tensor));
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const Safetensor* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

const std::string* SafetensorsFile::metadata(std::string_view key) const {
  const auto found = std::find_if(metadata_.begin(), metadata_.end(),
                                  [&](const SafetensorsHeader::Text& text) { return text.key == key; });
  return found == metadata_.end() ? nullptr : &found->value;
}

}  // namespace cga
