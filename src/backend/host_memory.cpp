#include "backend/host_memory.h"

#include <sys/mman.h>

#include <string>

#include "cga/error.h"

namespace cga {
namespace {

class HostBuffer final : public Buffer {
 public:
  HostBuffer(std::size_t bytes, std::string_view purpose) {
    if (bytes == 0) return;
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED) {
      throw Error(ErrorKind::memory, purpose, "cannot get " + std::to_string(bytes) + " bytes of memory",
                  "use a smaller context (-c), fewer sequences or a smaller model");
    }
    ::madvise(data, bytes, MADV_HUGEPAGE);  // fewer TLB misses; a refusal changes nothing
    data_ = static_cast<std::byte*>(data);
    size_ = bytes;
  }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  ~HostBuffer() override {
    if (data_ != nullptr) ::munmap(data_, size_);
  }
};

}  // namespace

std::unique_ptr<Buffer> allocate_host(std::size_t bytes, std::string_view purpose) {
  return std::make_unique<HostBuffer>(bytes, purpose);
}

}  // namespace cga
