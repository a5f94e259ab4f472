// Damaged and foreign files: each is refused as a bad file, by a message that says what is wrong and where.
#include <fstream>
#include <functional>
#include <random>

#include "cga/error.h"
#include "sample_file.h"

namespace cga {
namespace {

using test::behind;
using test::Bytes;
using test::GgufWriter;
using test::LoadedCopy;
using test::overwrite;

/// @return what the refusal says; "" if the file was accepted
std::string refusal_of(const Bytes& bytes) {
  try {
    const LoadedCopy file(bytes);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    CHECK(error.exit_code() == 3);
    return error.what();
  }
  return "";
}

TEST_CASE("every truncation of a valid file is refused") {
  const Bytes whole = test::sample_writer().bytes();
  REQUIRE(refusal_of(whole).empty());
  for (std::size_t n = 0; n < whole.size(); ++n) {
    INFO("the first " << n << " of " << whole.size() << " bytes");
    const std::string refusal = refusal_of(Bytes(whole.begin(), whole.begin() + static_cast<long>(n)));
    REQUIRE(refusal.find("sample.gguf: ") == 0);
    REQUIRE(refusal.find("found ") != std::string::npos);
    REQUIRE(refusal.find("expected ") != std::string::npos);
    REQUIRE(refusal.find("fetch it again") != std::string::npos);
  }
}

struct Damage {
  const char* what;
  std::function<void(Bytes&)> apply;
  const char* expected;  // the whole refusal, after the file's name
};

// Offsets in the sample: magic 0, version 4, tensor count 8, key count 16. Behind a key: value type (4
// bytes), value. Behind the name of a tensor: n_dims (4), dims (8 each), type (4), offset (8).
const std::vector<Damage> damages = {
    {"magic", [](Bytes& b) { b[3] = std::byte{'X'}; }, "magic: found \"GGUX\", expected \"GGUF\""},
    {"version 1", [](Bytes& b) { overwrite(b, 4, std::uint32_t{1}); },
     "version: found version 1, expected version 2 or 3; convert the model again"},
    {"version 4", [](Bytes& b) { overwrite(b, 4, std::uint32_t{4}); },
     "version: found version 4, expected version 2 or 3"},
    {"big-endian", [](Bytes& b) { overwrite(b, 4, std::uint32_t{0x03000000}); },
     "version: found version 3 in big-endian order, expected version 2 or 3 in little-endian order"},
    {"tensor count", [](Bytes& b) { overwrite(b, 8, ~std::uint64_t{0}); },
     "number of tensors: found 18446744073709551615, expected at most"},
    {"tensor count, one more", [](Bytes& b) { overwrite(b, 8, std::uint64_t{3}); }, "tensor 2, name: found"},
    {"key count", [](Bytes& b) { overwrite(b, 16, std::uint64_t{1} << 62); },
     "number of metadata keys: found 4611686018427387904, expected at most"},
    {"key length", [](Bytes& b) { overwrite(b, 24, std::uint64_t{1} << 63); }, "metadata key 0, text: found"},
    {"empty key", [](Bytes& b) { overwrite(b, 24, std::uint64_t{0}); },
     "metadata key 0, text: found an empty key, expected a key"},
    {"value type", [](Bytes& b) { overwrite(b, behind(b, "a.uint8"), std::uint32_t{13}); },
     "key a.uint8, value type: found type 13, expected a GGUF value type, 0 to 12"},
    {"boolean", [](Bytes& b) { overwrite(b, behind(b, "a.flag") + 4, std::uint8_t{2}); },
     "key a.flag, value: found boolean 2, expected 0 or 1"},
    {"string length", [](Bytes& b) { overwrite(b, behind(b, "general.name") + 4, ~std::uint64_t{0}); },
     "key general.name, string: found"},
    {"nested array", [](Bytes& b) { overwrite(b, behind(b, "a.numbers") + 4, std::uint32_t{9}); },
     "key a.numbers, element type: found an array of arrays, expected an array of numbers"},
    {"element type", [](Bytes& b) { overwrite(b, behind(b, "a.numbers") + 4, std::uint32_t{99}); },
     "key a.numbers, element type: found type 99, expected a GGUF value type"},
    {"array length", [](Bytes& b) { overwrite(b, behind(b, "a.numbers") + 8, std::uint64_t{1} << 61); },
     "key a.numbers, array length: found 2305843009213693952, expected at most"},
    {"string array length", [](Bytes& b) { overwrite(b, behind(b, "a.texts") + 8, std::uint64_t{1} << 61); },
     "key a.texts, array length: found 2305843009213693952, expected at most"},
    {"string in an array", [](Bytes& b) { overwrite(b, behind(b, "a.texts") + 16, ~std::uint64_t{0}); },
     "key a.texts, string: found"},
    {"no dimensions", [](Bytes& b) { overwrite(b, behind(b, "norm.weight"), std::uint32_t{0}); },
     "tensor norm.weight, number of dimensions: found 0, expected 1 to 4"},
    {"too many dimensions", [](Bytes& b) { overwrite(b, behind(b, "norm.weight"), std::uint32_t{5}); },
     "tensor norm.weight, number of dimensions: found 5, expected 1 to 4"},
    {"zero dimension", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 4, std::uint64_t{0}); },
     "tensor norm.weight, dimension 0: found 0, expected 1 to 2^63 - 1"},
    {"negative dimension", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 4, std::int64_t{-8}); },
     "tensor norm.weight, dimension 0: found 18446744073709551608, expected 1 to 2^63 - 1"},
    {"product", [](Bytes& b) { overwrite(b, behind(b, "blk.0.weight") + 12, std::int64_t{1} << 60); },
     "tensor blk.0.weight, dimensions: found a product above 2^63 - 1"},
    {"bytes overflow", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 4, std::int64_t{1} << 62); },
     "tensor norm.weight, dimensions: found more than 2^63 - 1 bytes"},
    {"columns", [](Bytes& b) { overwrite(b, behind(b, "blk.0.weight") + 4, std::int64_t{63}); },
     "tensor blk.0.weight, dimension 0: found 63, expected a multiple of 32, the block size of Q4_1"},
    {"unknown type", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 12, std::uint32_t{77}); },
     "tensor norm.weight, type: found 77, expected a known type, 0 to 42"},
    {"removed type", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 12, std::uint32_t{31}); },
     "tensor norm.weight, type: found Q4_0_4_4, which was removed from GGUF, expected a current type"},
    {"unaligned offset", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 16, std::uint64_t{95}); },
     "tensor norm.weight, offset: found 95, expected a multiple of the alignment 32"},
    {"offset outside", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 16, std::uint64_t{128}); },
     "tensor norm.weight, data: found 32 bytes at offset 128, expected an end within the 128 bytes of data"},
    {"offset overflow", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 16, ~std::uint64_t{31}); },
     "tensor norm.weight, data: found 32 bytes at offset 18446744073709551584, expected an end within"},
    {"overlap", [](Bytes& b) { overwrite(b, behind(b, "norm.weight") + 16, std::uint64_t{64}); },
     "tensor norm.weight, offset: found data that overlaps tensor blk.0.weight, expected bytes of its own"},
};

TEST_CASE("a single wrong field is named, with what was found and what was expected") {
  const Bytes whole = test::sample_writer().bytes();
  for (const Damage& damage : damages) {
    INFO(damage.what);
    Bytes bytes = whole;
    damage.apply(bytes);
    const std::string refusal = refusal_of(bytes);
    INFO(refusal);
    CHECK(refusal.find("sample.gguf: " + std::string(damage.expected)) == 0);
    CHECK(refusal.find(", expected ") != std::string::npos);
    CHECK(refusal.find("; ") != std::string::npos);
  }
}

TEST_CASE("keys and tensor names must be unique") {
  GgufWriter keys;
  keys.set("a.b", true).set("a.b", false);
  CHECK(refusal_of(keys.bytes()).find("sample.gguf: key a.b, text: found the key a second time") == 0);

  GgufWriter tensors;
  const Bytes data(32);
  tensors.add_tensor("t", {8}, 0, data).add_tensor("t", {8}, 0, data);
  CHECK(refusal_of(tensors.bytes()).find("sample.gguf: tensor t, name: found the name a second time") == 0);
}

TEST_CASE("an alignment must be a power of two from 8 on, and a number") {
  for (const std::uint32_t alignment : {0u, 4u, 24u, 33u}) {
    GgufWriter writer;
    writer.set("general.alignment", alignment);
    INFO(alignment);
    CHECK(refusal_of(writer.bytes())
              .find("sample.gguf: key general.alignment: found " + std::to_string(alignment) +
                    ", expected a power of two from 8 on") == 0);
  }
  GgufWriter text;
  text.set("general.alignment", "32");
  CHECK(refusal_of(text.bytes()).find("key general.alignment: found string, expected an integer") !=
        std::string::npos);

  // The data section would begin far behind the end.
  Bytes bytes =
      GgufWriter().set("general.alignment", std::uint32_t{64}).add_tensor("t", {8}, 0, Bytes(32)).bytes();
  overwrite(bytes, behind(bytes, "general.alignment") + 4, std::uint32_t{1} << 31);
  CHECK(refusal_of(bytes).find("padding before the tensors' data: found") != std::string::npos);
}

TEST_CASE("control bytes in a damaged name do not reach the terminal") {
  Bytes bytes = test::sample_writer().bytes();
  const std::size_t name_end = behind(bytes, "norm.weight");
  bytes[name_end - 1] = std::byte{0x1b};
  overwrite(bytes, name_end, std::uint32_t{0});
  CHECK(refusal_of(bytes).find("tensor norm.weigh\\x1b, number of dimensions") != std::string::npos);
}

TEST_CASE("files of other kinds are called by their name") {
  const auto path = std::filesystem::temp_directory_path() / "cga-foreign-test";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"<!DOCTYPE html><html>", "found a web page, expected a GGUF model file; the file is damaged"},
      {"version https://git-lfs.github.com/spec/v1", "found a Git LFS pointer instead of the file"},
      {std::string("PK\x03\x04....", 8), "found a PyTorch checkpoint or ZIP archive"},
      {std::string("\x40\x00\x00\x00\x00\x00\x00\x00{\"a\"", 12), "found a safetensors file"},
      {"tjgg....", "found a GGJT file from before GGUF"},
      {"GG", "found \"GG\", expected \"GGUF\", which begins a model file"},
      {"\x01\x02\x03\x04", "found \"\\x01\\x02\\x03\\x04\", expected \"GGUF\""},
  };
  for (const auto& [content, expected] : cases) {
    std::ofstream(path, std::ios::binary) << content;
    INFO(expected);
    std::string refusal;
    try {
      open_model_file(path);
    } catch (const Error& error) {
      CHECK(error.kind() == ErrorKind::bad_file);
      refusal = error.what();
    }
    CHECK(refusal.find(path.string() + ": first bytes: " + expected) == 0);
  }
  std::filesystem::remove(path);
}

/// Reads everything a file offers. @return a number that depends on all of it
std::size_t read_all(const LoadedCopy& file) {
  std::size_t sum = 0;
  for (const auto& [key, value] : file->describe()) sum += key.size() + value.size();
  for (const char* key : {"general.name", "a.numbers", "a.texts", "a.huge", "a.float64", "a.flag"}) {
    const std::function<void()> getters[] = {
        [&] { sum += file->text(key).value_or("").size(); },
        [&] { sum += static_cast<std::size_t>(file->integer(key).value_or(0)); },
        [&] { sum += file->real(key).has_value(); },
        [&] { sum += file->boolean(key).value_or(false); },
        [&] {
          for (const auto text : file->texts(key).value_or(std::vector<std::string_view>{}))
            sum += text.size();
        },
        [&] { sum += file->integers(key).value_or(std::vector<std::int64_t>{}).size(); },
    };
    for (const auto& get : getters) {
      try {
        get();
      } catch (const Error&) {
        ++sum;
      }
    }
  }
  for (const FileTensor& tensor : file->tensors()) {
    for (const std::byte byte : tensor.data) sum += std::to_integer<std::size_t>(byte);
  }
  return sum;
}

Bytes mutate(Bytes bytes, std::mt19937& random) {
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random()) % n; };
  const std::uint64_t numbers[] = {0,     1,     2, 31, 33, 0x7fffffff, 0xffffffff, std::uint64_t{1} << 63,
                                   ~0ull, ~31ull};
  for (std::size_t left = 1 + below(3); left > 0; --left) {
    const std::size_t at = below(bytes.size() - 8);
    switch (below(5)) {
      case 0:
        bytes[at] ^= static_cast<std::byte>(1u << below(8));
        break;
      case 1:
        bytes[at] = static_cast<std::byte>(below(256));
        break;
      case 2:
        overwrite(bytes, at, numbers[below(std::size(numbers))]);
        break;
      case 3:
        bytes.erase(bytes.begin() + static_cast<long>(at));
        break;
      default:
        bytes.insert(bytes.begin() + static_cast<long>(at), static_cast<std::byte>(below(256)));
    }
  }
  return bytes;
}

TEST_CASE("random damage either loads or is refused") {
  const Bytes whole = test::sample_writer().bytes();
  std::mt19937 random(42);
  std::size_t loaded = 0, refused = 0, sum = 0;
  for (int i = 0; i < 40'000; ++i) {
    const Bytes bytes = mutate(whole, random);
    try {
      const LoadedCopy file(bytes);
      sum += read_all(file);
      ++loaded;
    } catch (const Error& error) {
      refused += error.kind() == ErrorKind::bad_file;
    }
  }
  CHECK(loaded + refused == 40'000);
  CHECK(loaded > 1000);
  CHECK(refused > 1000);
  CHECK(sum > 0);
}

}  // namespace
}  // namespace cga
