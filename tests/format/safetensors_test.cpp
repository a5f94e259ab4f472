// The safetensors reader: what a valid file gives, and how every kind of damage is named.
#include "format/safetensors.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <random>

#include "cga/error.h"
#include "support/catch.h"
#include "support/safetensors_writer.h"

namespace cga {
namespace {

using test::safetensors_bytes;
using test::SafetensorsWriter;
using Bytes = std::vector<std::byte>;

SafetensorsWriter sample() {
  SafetensorsWriter writer;
  writer.set("format", "sample").set("note", "\\u00e4");
  writer.add("a.matrix", "F32", {2, 3}, std::vector<float>{0, 1, 2, 3, 4, 5});
  writer.add("a.none", "F16", {0, 128}, std::vector<std::uint16_t>{});
  writer.add("a.scalar", "I64", {}, std::vector<std::int64_t>{-7});
  writer.add("b.codes", "I8", {4}, std::vector<std::int8_t>{-127, 0, 1, 127});
  return writer;
}

/// Reads a copy in a buffer of exactly its size, so that sanitizers see a step beyond the end.
class LoadedCopy {
 public:
  explicit LoadedCopy(const Bytes& bytes) : bytes_(std::make_unique<std::byte[]>(bytes.size())) {
    std::copy(bytes.begin(), bytes.end(), bytes_.get());
    file_.emplace("sample.cga", std::span<const std::byte>(bytes_.get(), bytes.size()));
  }
  const SafetensorsFile* operator->() const { return &*file_; }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  std::optional<SafetensorsFile> file_;
};

/// @return what the refusal says; "" if the file was accepted
std::string refusal_of(const Bytes& bytes) {
  try {
    const LoadedCopy file(bytes);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    return error.what();
  }
  return "";
}

std::string refusal_of(std::string_view header, std::size_t n_data = 0) {
  return refusal_of(safetensors_bytes(header, Bytes(n_data)));
}

TEST_CASE("safetensors: a file gives its metadata and tensors") {
  const LoadedCopy file(sample().bytes());
  REQUIRE(file->metadata("note") != nullptr);
  CHECK(*file->metadata("note") == "ä");
  CHECK(file->metadata("other") == nullptr);
  CHECK(file->metadata().size() == 2);
  REQUIRE(file->tensors().size() == 4);
  const Safetensor* matrix = file->find("a.matrix");
  REQUIRE(matrix != nullptr);
  CHECK(matrix->dtype == "F32");
  CHECK(matrix->shape == std::vector<std::int64_t>{2, 3});
  REQUIRE(matrix->data.size() == 24);
  float last;
  std::memcpy(&last, matrix->data.data() + 20, 4);
  CHECK(last == 5.0f);
  CHECK(file->find("a.none")->data.empty());
  CHECK(file->find("a.scalar")->shape.empty());
  CHECK(file->find("b.codes")->data[0] == std::byte{0x81});
  CHECK(file->find("b") == nullptr);
}

TEST_CASE("safetensors: a file without tensors or metadata is valid") {
  CHECK(refusal_of("{}").empty());
  CHECK(refusal_of("{\"__metadata__\":{}}   ").empty());
}

TEST_CASE("safetensors: every truncation of a valid file is refused") {
  const Bytes whole = sample().bytes();
  REQUIRE(refusal_of(whole).empty());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    INFO("the first " << n << " of " << whole.size() << " bytes");
    const std::string refusal = refusal_of(Bytes(whole.begin(), whole.begin() + static_cast<long>(n)));
    REQUIRE(refusal.find("sample.cga: ") == 0);
    REQUIRE(refusal.find("found ") != std::string::npos);
    REQUIRE(refusal.find("expected ") != std::string::npos);
  }
  Bytes longer = whole;
  longer.push_back(std::byte{0});
  CHECK(refusal_of(longer).find("sample.cga: data: found 37 bytes, expected 36") == 0);
}

struct Damage {
  const char* header;
  std::size_t n_data;
  const char* expected;  // the refusal, after the file's name
};

const Damage damages[] = {
    {"", 0, "header: found an error in the JSON at byte 1, expected JSON in UTF-8"},
    {"[]", 0, "header: found an array, expected an object"},
    {"1", 0, "header: found a number, expected an object"},
    {"{} x", 0, "header: found an error in the JSON"},
    {"{\"a\":1}", 0, "header, member \"a\": found a number, expected an object"},
    {"{\"a\":\"\xff\"}", 0, "header: found an error in the JSON"},
    {"{\"\":{}}", 0, "header: found an empty name, expected a name"},
    {"{\"a\":{}}", 0, "tensor a: found no dtype, expected dtype, shape and data_offsets"},
    {"{\"__metadata__\":{\"k\":1}}", 0, "metadata \"k\": found a number, expected a string"},
    {"{\"__metadata__\":{\"k\":{}}}", 0, "metadata \"k\": found an object, expected a string"},
    {"{\"__metadata__\":{\"k\":\"a\",\"k\":\"b\"}}", 0, "metadata \"k\": found the member a second time"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0,
     "header, member \"__metadata__\": found the member a second time"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{}}", 4,
     "header, member \"a\": found the member a second time, expected it once"},
    {"{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\"}}", 0, "tensor a, dtype: found the member a second time"},
    {"{\"a\":{\"extra\":1}}", 0, "tensor a, extra: found an unknown member"},
    {"{\"a\":{\"dtype\":[]}}", 0, "tensor a, dtype: found an array, expected a string"},
    {"{\"a\":{\"dtype\":null}}", 0, "tensor a, dtype: found null, expected a string"},
    {"{\"a\":{\"shape\":\"1\"}}", 0, "tensor a, shape: found a string, expected an array of whole numbers"},
    {"{\"a\":{\"shape\":[[1]]}}", 0, "tensor a, shape: found an array, expected a whole number from 0 on"},
    {"{\"a\":{\"shape\":[-1]}}", 0, "tensor a, shape: found a negative number"},
    {"{\"a\":{\"shape\":[1.5]}}", 0, "tensor a, shape: found a fraction"},
    {"{\"a\":{\"shape\":[18446744073709551616]}}", 0, "tensor a, shape: found a fraction or a number above"},
    {"{\"a\":{\"shape\":[true]}}", 0, "tensor a, shape: found a boolean"},
    {"{\"a\":{\"shape\":[1,1,1,1,1,1,1,1,1]}}", 0, "tensor a, shape: found more than 8 numbers"},
    {"{\"a\":{\"data_offsets\":[0,1,2]}}", 0, "tensor a, data_offsets: found more than 2 numbers"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4,
     "tensor a, data_offsets: found 1 numbers, expected 2"},
    {"{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
     "tensor a, dtype: found \"F33\", expected a type of the format"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4],\"data_offsets\":[0,4]}}", 4,
     "tensor a, shape: found more than 2^63 - 1 bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,18446744073709551615],\"data_offsets\":[0,0]}}", 0,
     "tensor a, shape: found more than 2^63 - 1 bytes"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}", 8,
     "tensor a, data_offsets: found 8 bytes, expected 4, which its shape and type take"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 4,
     "tensor a, data_offsets: found [4, 8], expected a range within the 4 bytes of data"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4,
     "tensor a, data_offsets: found [4, 0], expected a range within the 4 bytes of data"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8,
     "tensor a, data_offsets: found a beginning at 4, expected 0, where the bytes before it end"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
     "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
     12, "tensor b, data_offsets: found a beginning at 4, expected 8, where the bytes before it end"},
    {"{\"a\\u001b\":{\"dtype\":1}}", 0, "tensor a\\x1b, dtype: found a number"},
};

TEST_CASE("safetensors: a single wrong field is named, with what was found and what was expected") {
  for (const Damage& damage : damages) {
    INFO(damage.header);
    const std::string refusal = refusal_of(damage.header, damage.n_data);
    INFO(refusal);
    CHECK(refusal.find("sample.cga: " + std::string(damage.expected)) == 0);
  }
  Bytes huge = sample().bytes();
  huge[5] = std::byte{1};
  CHECK(refusal_of(huge).find("sample.cga: header length: found 10995116") == 0);
}

TEST_CASE("safetensors: nesting without end is refused at once") {
  std::string header = "{\"a\":";
  header.append(1'000'000, '[');
  CHECK(refusal_of(header).find("header, member \"a\": found an array, expected an object") !=
        std::string::npos);
}

TEST_CASE("safetensors: random damage either loads or is refused") {
  const Bytes whole = sample().bytes();
  std::mt19937 random(42);
  int loaded = 0, refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    Bytes bytes = whole;
    for (std::size_t left = 1 + random() % 3; left > 0; --left) {
      const std::size_t at = random() % (random() % 2 == 0 ? bytes.size() : std::size_t{24});
      if (random() % 2 == 0) {
        bytes[at] ^= static_cast<std::byte>(1u << random() % 8);
      } else {
        bytes[at] = static_cast<std::byte>("0123456789[]{},:\"aF"[random() % 19]);
      }
    }
    try {
      const LoadedCopy file(bytes);
      std::size_t sum = 0;
      for (const Safetensor& tensor : file->tensors()) {
        for (const std::byte byte : tensor.data) sum += std::to_integer<std::size_t>(byte);
      }
      ++loaded;
      CHECK(sum < 100'000);
    } catch (const Error& error) {
      refused += error.kind() == ErrorKind::bad_file;
    }
  }
  CHECK(loaded + refused == 20'000);
  CHECK(loaded > 500);
  CHECK(refused > 500);
}

}  // namespace
}  // namespace cga
