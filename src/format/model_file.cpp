// Which format a file has, by its first bytes; files people often have instead are called by their name.
#include "format/model_file.h"

#include "base/mapped_file.h"
#include "format/gguf.h"
#include "format/refusal.h"

namespace cga {
namespace {

struct Foreign {
  std::string_view start, name, remedy;
};

constexpr std::string_view convert = "convert the model to GGUF";
constexpr Foreign foreign[] = {
    {"version https://git-lfs", "a Git LFS pointer instead of the file", "fetch it with git lfs pull"},
    {"<!", "a web page", fetch_again},
    {"<html", "a web page", fetch_again},
    {"PK\x03\x04", "a PyTorch checkpoint or ZIP archive", convert},
    {"\x1f\x8b", "a gzip archive", "unpack it"},
    {"lmgg", "a GGML file from before GGUF", convert},
    {"tjgg", "a GGJT file from before GGUF", convert},
    {"fmgg", "a GGMF file from before GGUF", convert},
};

std::string_view first_bytes(std::span<const std::byte> bytes, std::size_t n) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size() < n ? bytes.size() : n};
}

/// A safetensors file starts with the length of a JSON header, then the header.
bool is_safetensors(std::string_view start) {
  return start.size() >= 9 && start[8] == '{' && start.substr(5, 3) == std::string_view("\0\0\0", 3);
}

[[noreturn]] void refuse_foreign(const std::string& file, std::string_view start) {
  const std::string_view expected = "a GGUF model file";
  for (const Foreign& kind : foreign) {
    if (start.starts_with(kind.start)) refuse(file, {"first bytes", kind.name, expected, kind.remedy});
  }
  if (is_safetensors(start)) refuse(file, {"first bytes", "a safetensors file", expected, convert});
  const std::string found = quoted(start.substr(0, 4));
  refuse(file,
         {"first bytes", found, "\"GGUF\", which begins a model file", "check the path, or fetch it again"});
}

}  // namespace

std::unique_ptr<ModelFile> open_model_file(const std::filesystem::path& path) {
  MappedFile file(path);
  const std::string_view start = first_bytes(file.bytes(), 32);
  if (!start.starts_with("GGUF")) refuse_foreign(path.string(), start);
  return std::make_unique<GgufFile>(std::move(file));
}

}  // namespace cga
