// GGUF: the order of a file (header, metadata, tensors), and typed access to its keys.
#include "format/gguf.h"

#include <utility>

#include "format/byte_reader.h"
#include "format/gguf_tensors.h"

namespace cga {
namespace {

constexpr std::string_view alignment_key = "general.alignment";
constexpr std::uint64_t default_alignment = 32;
constexpr std::size_t min_entry_bytes = 8 + 1 + 4 + 1;  // a key of one byte and a one-byte value

std::string field_of(std::string_view key) {
  return "key " + printable(key);
}

void check_magic(ByteReader& reader) {
  const std::string_view magic = reader.text(4, "magic");
  if (magic != "GGUF") reader.fail("magic", quoted(magic), "\"GGUF\"");
}

int read_version(ByteReader& reader) {
  const auto version = reader.number<std::uint32_t>("version");
  if (version == 2 || version == 3) return static_cast<int>(version);
  const std::string expected = "version 2 or 3";
  if (version == 1) {
    reader.fail("version", "version 1", expected, "convert the model again, with a current converter");
  }
  const std::uint32_t swapped = __builtin_bswap32(version);
  if (swapped >= 1 && swapped <= 0xffff && version > 0xffff) {
    reader.fail("version", "version " + std::to_string(swapped) + " in big-endian order",
                expected + " in little-endian order",
                "fetch or convert the model for little-endian machines");
  }
  reader.fail("version", "version " + std::to_string(version), expected,
              "fetch the file again if it is damaged, or a version of it in GGUF 3");
}

}  // namespace

GgufFile::GgufFile(MappedFile file) : file_(std::move(file)), path_(file_->path()) {
  read(file_->bytes());
}

GgufFile::GgufFile(std::filesystem::path path, std::span<const std::byte> bytes) : path_(std::move(path)) {
  read(bytes);
}

void GgufFile::read(std::span<const std::byte> bytes) {
  ByteReader reader(bytes, path_.string());
  check_magic(reader);
  version_ = read_version(reader);
  const std::size_t n_tensors = reader.count(min_tensor_bytes, "number of tensors");
  const std::size_t n_entries = reader.count(min_entry_bytes, "number of metadata keys");
  read_metadata(reader, n_entries);
  read_tensors(reader, n_tensors);
}

void GgufFile::read_metadata(ByteReader& reader, std::size_t n) {
  entries_.reserve(n);
  entry_index_.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    reader.enter("metadata key " + std::to_string(i));
    const auto length = reader.number<std::uint64_t>("length");
    if (length == 0) reader.fail("text", "an empty key", "a key");
    const std::string_view key = reader.text(length, "text");
    reader.enter(field_of(key));
    if (!entry_index_.emplace(key, i).second) reader.fail("text", "the key a second time", "it once");
    entries_.push_back({key, read_gguf_value(reader)});
  }
}

void GgufFile::read_tensors(ByteReader& reader, std::size_t n) {
  tensors_ = read_gguf_tensors(reader, n, alignment());
  tensor_index_.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (!tensor_index_.emplace(tensors_[i].name, i).second) {
      reader.enter("tensor " + printable(tensors_[i].name));
      reader.fail("name", "the name a second time", "it once");
    }
  }
}

std::uint64_t GgufFile::alignment() const {
  const auto alignment = integer(alignment_key);
  if (!alignment) return default_alignment;
  // The specification asks for a multiple of 8; all known files have a power of two.
  if (*alignment < 8 || (*alignment & (*alignment - 1)) != 0) {
    refuse(path_.string(), {field_of(alignment_key), std::to_string(*alignment), "a power of two from 8 on"});
  }
  return static_cast<std::uint64_t>(*alignment);
}

const FileTensor* GgufFile::find(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
}

const GgufValue* GgufFile::value(std::string_view key) const {
  const auto found = entry_index_.find(key);
  return found == entry_index_.end() ? nullptr : &entries_[found->second].value;
}

void GgufFile::expect(std::string_view key, const GgufValue& value, bool fits,
                      std::string_view expected) const {
  if (fits) return;
  refuse(path_.string(), {field_of(key), type_text(value), expected, "fetch or convert the model again"});
}

std::int64_t GgufFile::checked_integer(std::string_view key, const GgufValue& value, std::size_t i) const {
  const auto number = integer_at(value, i);
  if (!number) refuse(path_.string(), {field_of(key), "a number above 2^63 - 1", "one below"});
  return *number;
}

std::optional<std::string> GgufFile::text(std::string_view key) const {
  const GgufValue* v = value(key);
  if (v == nullptr) return std::nullopt;
  expect(key, *v, !v->is_array && v->type == GgufType::string, "string");
  return std::string(all_texts(*v).front());
}

std::optional<std::int64_t> GgufFile::integer(std::string_view key) const {
  const GgufValue* v = value(key);
  if (v == nullptr) return std::nullopt;
  expect(key, *v, !v->is_array && is_integer(v->type), "an integer");
  return checked_integer(key, *v, 0);
}

std::optional<double> GgufFile::real(std::string_view key) const {
  const GgufValue* v = value(key);
  if (v == nullptr) return std::nullopt;
  expect(key, *v, !v->is_array && (is_float(v->type) || is_integer(v->type)), "a number");
  return is_float(v->type) ? float_at(*v, 0) : static_cast<double>(checked_integer(key, *v, 0));
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const GgufValue* v = value(key);
  if (v == nullptr) return std::nullopt;
  expect(key, *v, !v->is_array && v->type == GgufType::boolean, "boolean");
  return boolean_at(*v, 0);
}

std::optional<std::vector<std::string_view>> GgufFile::texts(std::string_view key) const {
  const GgufValue* v = value(key);
  if (v == nullptr) return std::nullopt;
  expect(key, *v, v->is_array && v->type == GgufType::string, "array of string");
  return all_texts(*v);
}

std::optional<std::vector<std::int64_t>> GgufFile::integers(std::string_view key) const {
  const GgufValue* v = value(key);
  if (v == nullptr) return std::nullopt;
  expect(key, *v, v->is_array && is_integer(v->type), "array of integers");
  std::vector<std::int64_t> numbers(v->n_elements);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = checked_integer(key, *v, i);
  return numbers;
}

std::vector<std::pair<std::string, std::string>> GgufFile::describe() const {
  std::vector<std::pair<std::string, std::string>> lines;
  lines.reserve(entries_.size());
  for (const Entry& entry : entries_) lines.emplace_back(printable(entry.key), show(entry.value));
  return lines;
}

void GgufFile::release(const FileTensor& tensor) const {
  if (file_) file_->release(tensor.data);
}

}  // namespace cga
