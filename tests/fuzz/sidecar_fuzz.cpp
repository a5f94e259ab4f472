// Fuzz target of the sidecar: any bytes either make a sidecar or are refused with cga::Error; a group's
// tensors can be read whole. With clang: -fsanitize=fuzzer,address, without replay.cpp.
#include <cstddef>
#include <cstdint>
#include <span>

#include "cga/codec_plan.h"
#include "cga/error.h"
#include "cga/sidecar.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const cga::Sidecar sidecar(cga::SafetensorsFile("fuzz.cga", std::as_bytes(std::span(data, size))));
    volatile int sink = 0;
    for (const cga::LayerGroup& group : sidecar.groups()) {
      const cga::LatentView& view = group.transform;
      for (std::int64_t i = 0; i < (view.m - view.w) * view.n; ++i) sink = view.basis[i];
      for (std::int64_t i = 0; i < view.w * view.n; ++i) sink = view.basis_wide[i];
      sink = static_cast<int>(cga::plan_layout(view, 1.5).unit_bytes());
    }
    static_cast<void>(sink);
  } catch (const cga::Error&) {
  }
  return 0;
}
