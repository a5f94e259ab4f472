// The one place that knows which backends exist.
#include <algorithm>
#include <string>
#include <thread>

#include "backend/backend.h"
#include "cga/error.h"
#include "kernels/cpu/backend.h"
#include "kernels/reference/backend.h"

namespace cga {

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  const auto [device, n_threads, memory_limit, exact] = options;
  const int n_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (device == "auto" || device == "cpu") return cpu::make_backend(n_threads > 0 ? n_threads : n_cores);
  if (device == "scalar") return reference::make_backend();
  throw Error(ErrorKind::device, "--device", "this build has no device '" + std::string(device) + "'",
              "use auto, cpu or scalar");
}

}  // namespace cga
