// Host memory for the CPU backends: aligned to pages, zeroed by the system, committed only when touched.
#pragma once

#include <memory>
#include <string_view>

#include "backend/backend.h"

namespace cga {

/// @throws Error (memory) naming the bytes and `purpose`
std::unique_ptr<Buffer> allocate_host(std::size_t bytes, std::string_view purpose);

/// What backends have in common whose device memory is the host's.
class HostBackend : public Backend {
 public:
  std::unique_ptr<Buffer> allocate(std::size_t bytes, std::string_view purpose) override {
    return allocate_host(bytes, purpose);
  }
  DeviceMemory memory() const override;
  void write(void* to, const void* from, std::size_t bytes) override;
  const void* read(const void* from, std::size_t) override { return from; }
  void run_step(const StepShape&, const std::function<void()>& step) override { step(); }
};

}  // namespace cga
