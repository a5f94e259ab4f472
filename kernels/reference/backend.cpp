#include "kernels/reference/backend.h"

#include <chrono>

#include "backend/host_memory.h"
#include "kernels/reference/reference_ops.h"

namespace cga::reference {
namespace {

class ReferenceBackend final : public HostBackend {
 public:
  std::string_view name() const override { return "scalar"; }
  std::string description() const override { return "scalar reference, 1 thread"; }
  Ops& ops() override { return ops_; }
  int n_threads() const override { return 1; }

  double time_read(const std::byte* data, std::size_t bytes) override {
    const auto start = std::chrono::steady_clock::now();
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i + 8 <= bytes; i += 8) {
      sum += *reinterpret_cast<const std::uint64_t*>(data + i);
    }
    // The sum is written through a volatile, so that the loop cannot be left out.
    [[maybe_unused]] volatile std::uint64_t sink = sum;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

 private:
  ReferenceOps ops_;
};

}  // namespace

std::unique_ptr<Backend> make_backend() {
  return std::make_unique<ReferenceBackend>();
}

}  // namespace cga::reference
