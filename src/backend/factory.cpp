// The one place that knows which backends exist.
#include <algorithm>
#include <charconv>
#include <string>
#include <thread>

#include "backend/backend.h"
#include "cga/error.h"
#include "kernels/cpu/backend.h"
#include "kernels/reference/backend.h"
#ifdef CGA_HAVE_CUDA
#include "kernels/cuda/backend.h"
#endif

namespace cga {
namespace {

[[noreturn]] void refuse(std::string_view device, const char* remedy) {
  throw Error(ErrorKind::device, "--device", "this build has no device '" + std::string(device) + "'",
              remedy);
}

#ifdef CGA_HAVE_CUDA
constexpr const char* devices = "use auto, cpu, cuda, cuda:N or scalar";

bool has_cuda_device() {
  return cuda::has_device();
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  const std::string_view name = options.device;
  int ordinal = 0;
  if (const auto colon = name.find(':'); colon != std::string_view::npos) {
    const char* const end = name.data() + name.size();
    const auto [last, error] = std::from_chars(name.data() + colon + 1, end, ordinal);
    if (error != std::errc() || last != end || ordinal < 0) refuse(name, devices);
  }
  return cuda::make_backend(ordinal, options.memory_limit, options.exact);
}
#else
constexpr const char* devices = "use auto, cpu or scalar, or build with the CUDA toolkit for cuda";

bool has_cuda_device() {
  return false;
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options) {
  refuse(options.device, devices);
}
#endif

}  // namespace

std::unique_ptr<Backend> make_backend(const BackendOptions& options) {
  const std::string_view device = options.device;
  const int n_cores = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (device == "cuda" || device.starts_with("cuda:") || (device == "auto" && has_cuda_device())) {
    return make_cuda_backend(options);
  }
  if (device == "auto" || device == "cpu") {
    return cpu::make_backend(options.n_threads > 0 ? options.n_threads : n_cores);
  }
  if (device == "scalar") return reference::make_backend();
  refuse(device, devices);
}

}  // namespace cga
