#include "backend/host_memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
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

/// Memory of the machine, or what a container may use of it: beyond that, the kernel ends the process. What
/// others use now is not subtracted: much of it is cache that gives way.
DeviceMemory HostBackend::memory() const {
  std::int64_t there = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::FILE* file = std::fopen(path, "r");
    if (file == nullptr) continue;
    std::int64_t limit = 0;
    const bool has_limit = std::fscanf(file, "%" SCNd64, &limit) == 1;  // "max" is no number
    std::fclose(file);
    if (has_limit && limit > 0) there = std::min(there, limit);
  }
  return {there, there};
}

void HostBackend::write(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

}  // namespace cga
