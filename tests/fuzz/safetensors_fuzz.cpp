// Fuzz target of the safetensors reader: any bytes either load or are refused with cga::Error; what loads can
// be read whole. With clang: -fsanitize=fuzzer,address, without replay.cpp.
#include <cstddef>
#include <cstdint>
#include <span>

#include "cga/error.h"
#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const cga::SafetensorsFile file("fuzz.cga", std::as_bytes(std::span(data, size)));
    volatile unsigned sink = 0;
    for (const cga::Safetensor& tensor : file.tensors()) {
      for (const std::byte byte : tensor.data) sink = std::to_integer<unsigned>(byte);
    }
    static_cast<void>(sink);
  } catch (const cga::Error&) {
  }
  return 0;
}
