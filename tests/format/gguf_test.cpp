// What a valid GGUF file gives, through the interface the engine uses.
#include "format/gguf.h"

#include <sys/mman.h>

#include <cstdlib>

#include "cga/error.h"
#include "format/ggml_types.h"
#include "sample_file.h"

namespace cga {
namespace {

using test::Approx;
using test::Bytes;
using test::GgufWriter;
using test::LoadedCopy;

std::string message_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::bad_file);
    return error.what();
  }
  return "no error";
}

std::filesystem::path temporary(const char* name) {
  return std::filesystem::temp_directory_path() / name;
}

TEST_CASE("every type of value is read") {
  const LoadedCopy file(test::sample_writer().bytes());
  CHECK(file->version() == 3);
  CHECK(file->text("general.architecture") == "llama");
  CHECK(file->integer("a.uint8") == 200);
  CHECK(file->integer("a.int8") == -100);
  CHECK(file->integer("a.uint16") == 60000);
  CHECK(file->integer("a.int16") == -30000);
  CHECK(file->integer("a.uint32") == 4000000000);
  CHECK(file->integer("a.int32") == -2000000000);
  CHECK(file->integer("a.uint64") == std::int64_t{1} << 40);
  CHECK(file->integer("a.int64") == -(std::int64_t{1} << 40));
  CHECK(file->real("a.float32") == double{1e-5f});
  CHECK(file->real("a.float64") == 0.1);
  CHECK(file->real("a.int8") == -100.0);
  CHECK(file->boolean("a.flag") == true);
  CHECK(file->integers("a.numbers") == std::vector<std::int64_t>{3, -1, 7});
  CHECK(file->texts("a.texts") == std::vector<std::string_view>{"", "Ġhello", "x"});
  CHECK(file->texts("a.none")->empty());
}

TEST_CASE("texts are views into the file") {
  const LoadedCopy file(test::sample_writer().bytes());
  const auto texts = file->texts("a.texts");
  REQUIRE(texts);
  const auto* begin = reinterpret_cast<const char*>(file.bytes().data());
  for (const std::string_view text : *texts) {
    CHECK(text.data() > begin);
    CHECK(text.data() + text.size() <= begin + file.bytes().size());
  }
}

TEST_CASE("a missing key is no error") {
  const LoadedCopy file(test::sample_writer().bytes());
  CHECK_FALSE(file->text("no.such"));
  CHECK_FALSE(file->integer("no.such"));
  CHECK_FALSE(file->real("no.such"));
  CHECK_FALSE(file->boolean("no.such"));
  CHECK_FALSE(file->texts("no.such"));
  CHECK_FALSE(file->integers("no.such"));
  CHECK(file->find("no.such") == nullptr);
}

TEST_CASE("a key of another type is refused by name, found and expected type") {
  const LoadedCopy file(test::sample_writer().bytes());
  const std::string remedy = "; fetch or convert the model again";
  CHECK(message_of([&] { file->text("a.uint8"); }) ==
        "sample.gguf: key a.uint8: found uint8, expected string" + remedy);
  CHECK(message_of([&] { file->integer("a.float32"); }) ==
        "sample.gguf: key a.float32: found float32, expected an integer" + remedy);
  CHECK(message_of([&] { file->integer("a.flag"); }) ==
        "sample.gguf: key a.flag: found boolean, expected an integer" + remedy);
  CHECK(message_of([&] { file->integer("a.numbers"); }) ==
        "sample.gguf: key a.numbers: found array of int32, expected an integer" + remedy);
  CHECK(message_of([&] { file->real("general.name"); }) ==
        "sample.gguf: key general.name: found string, expected a number" + remedy);
  CHECK(message_of([&] { file->boolean("a.int8"); }) ==
        "sample.gguf: key a.int8: found int8, expected boolean" + remedy);
  CHECK(message_of([&] { file->texts("a.numbers"); }) ==
        "sample.gguf: key a.numbers: found array of int32, expected array of string" + remedy);
  CHECK(message_of([&] { file->integers("a.uint8"); }) ==
        "sample.gguf: key a.uint8: found uint8, expected array of integers" + remedy);
  CHECK(message_of([&] { file->integer("a.huge"); }).find("key a.huge: found a number above 2^63 - 1") !=
        std::string::npos);
}

TEST_CASE("tensors have names, shapes, types and their bytes") {
  const LoadedCopy file(test::sample_writer().bytes());
  REQUIRE(file->tensors().size() == 2);
  const FileTensor* matrix = file->find("blk.0.weight");
  REQUIRE(matrix == &file->tensors()[0]);
  CHECK(matrix->type_id == 3);
  CHECK(matrix->type_name == "Q4_1");
  CHECK(matrix->n_dims == 2);
  CHECK(matrix->shape == std::array<std::int64_t, 4>{64, 2, 1, 1});
  REQUIRE(matrix->data.size() == 80);
  CHECK(matrix->data[79] == std::byte{79});
  const FileTensor* norm = file->find("norm.weight");
  REQUIRE(norm != nullptr);
  CHECK(norm->n_dims == 1);
  CHECK(norm->data.data() + 32 == file.bytes().data() + file.bytes().size());
}

TEST_CASE("describe renders every value in one line") {
  const LoadedCopy file(test::sample_writer().bytes());
  const auto lines = file->describe();
  REQUIRE(lines.size() == 17);
  CHECK(lines[1] == std::pair<std::string, std::string>{"general.name", "tiny\\nmodel"});
  CHECK(lines[3].second == "-100");
  CHECK(lines[10].second == "18446744073709551615");
  CHECK(lines[11].second == "1e-05");
  CHECK(lines[13].second == "true");
  CHECK(lines[15].second == "array of string, 3 elements");
}

TEST_CASE("version 2 and other alignments are read") {
  GgufWriter writer(2);
  writer.set("general.alignment", std::uint32_t{256});
  const Bytes data(64);
  writer.add_tensor("a", {16}, 0, data).add_tensor("b", {16}, 0, data);
  const LoadedCopy file(writer.bytes());
  CHECK(file->version() == 2);
  CHECK(file->find("b")->data.data() - file->find("a")->data.data() == 256);
  CHECK((file->find("a")->data.data() - file.bytes().data()) % 256 == 0);
}

TEST_CASE("a file without keys and tensors is valid") {
  const LoadedCopy file(GgufWriter().bytes());
  CHECK(file->tensors().empty());
  CHECK(file->describe().empty());
}

TEST_CASE("loading does not touch the tensors' bytes") {
  constexpr std::size_t page = 4096;
  GgufWriter writer;
  writer.set("general.alignment", static_cast<std::uint32_t>(page));
  writer.add_tensor("a", {page / 4}, 0, Bytes(page)).add_tensor("b", {page / 4}, 0, Bytes(page));
  const Bytes bytes = writer.bytes();
  REQUIRE(bytes.size() == 3 * page);
  void* memory = ::mmap(nullptr, bytes.size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  std::memcpy(memory, bytes.data(), bytes.size());
  auto* begin = static_cast<std::byte*>(memory);
  REQUIRE(::mprotect(begin + page, 2 * page, PROT_NONE) == 0);  // reading them now would be fatal
  {
    const GgufFile file("protected.gguf", {begin, bytes.size()});
    CHECK(file.find("b")->data.data() == begin + 2 * page);
  }
  ::munmap(memory, bytes.size());
}

TEST_CASE("open_model_file maps a file, and releasing a tensor keeps its bytes readable") {
  const auto path = temporary("cga-format-test.gguf");
  test::sample_writer().write(path);
  const auto file = open_model_file(path);
  CHECK(file->path() == path);
  const FileTensor* matrix = file->find("blk.0.weight");
  REQUIRE(matrix != nullptr);
  file->release(*matrix);
  CHECK(matrix->data[5] == std::byte{5});
  std::filesystem::remove(path);
}

TEST_CASE("the table of tensor types knows sizes and removed types") {
  REQUIRE(find_ggml_type(14) != nullptr);
  CHECK(find_ggml_type(14)->name == "Q6_K");
  CHECK(find_ggml_type(14)->block_bytes == 210);
  CHECK(find_ggml_type(31)->block_values == 0);
  CHECK(find_ggml_type(static_cast<std::uint32_t>(ggml_types().size())) == nullptr);
}

std::filesystem::path models_folder() {
  if (const char* folder = std::getenv("CGA_MODELS")) return folder;
  const char* home = std::getenv("HOME");
  return std::filesystem::path(home != nullptr ? home : ".") / ".cache/cga/models";
}

TEST_CASE("SmolLM2-135M-Instruct is read") {
  const auto path = models_folder() / "SmolLM2-135M-Instruct.Q4_1.gguf";
  if (!std::filesystem::exists(path)) {
    WARN("skipped: " << path.string() << " is not there");
    return;
  }
  const auto file = open_model_file(path);
  CHECK(file->text("general.architecture") == "llama");
  CHECK(file->integer("llama.block_count") == 30);
  CHECK(file->real("llama.attention.layer_norm_rms_epsilon") == Approx(1e-5));
  CHECK(file->texts("tokenizer.ggml.tokens")->size() == 49152);
  CHECK(file->texts("tokenizer.ggml.merges")->front() == "Ġ t");
  CHECK(file->integers("tokenizer.ggml.token_type")->size() == 49152);
  CHECK(file->tensors().size() == 272);
  const FileTensor* embedding = file->find("token_embd.weight");
  REQUIRE(embedding != nullptr);
  CHECK(embedding->shape == std::array<std::int64_t, 4>{576, 49152, 1, 1});
}

}  // namespace
}  // namespace cga
