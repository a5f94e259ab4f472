// Fuzz target of the GGUF reader: any bytes either load or are refused with cga::Error; what loads can be
// read whole. With clang: -fsanitize=fuzzer,address, without replay.cpp.
#include <cstddef>
#include <cstdint>
#include <span>

#include "cga/error.h"
#include "format/gguf.h"

namespace {

/// Calls `get`, which may refuse a key of another type.
template <class Get>
void allow_refusal(const Get& get) {
  try {
    get();
  } catch (const cga::Error&) {
  }
}

void read_key(const cga::GgufFile& file, const std::string& key) {
  allow_refusal([&] { file.text(key); });
  allow_refusal([&] { file.integer(key); });
  allow_refusal([&] { file.real(key); });
  allow_refusal([&] { file.boolean(key); });
  allow_refusal([&] { file.texts(key); });
  allow_refusal([&] { file.integers(key); });
}

/// Touches every byte of every tensor.
void read_tensors(const cga::GgufFile& file) {
  for (const cga::FileTensor& tensor : file.tensors()) {
    volatile unsigned sink = 0;
    for (const std::byte byte : tensor.data) sink = std::to_integer<unsigned>(byte);
    static_cast<void>(sink);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  allow_refusal([&] {
    const cga::GgufFile file("fuzz.gguf", std::as_bytes(std::span(data, size)));
    for (const auto& [key, value] : file.describe()) read_key(file, key);
    read_tensors(file);
  });
  return 0;
}
