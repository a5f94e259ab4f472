// A backend: memory of a device, and the ops that work on it. Peers behind one interface.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace cga {

class Ops;

/// Device memory, zeroed. Pages of it that are never touched cost nothing on the CPU. Only ops, and the
/// backend's read and write, may follow the pointer: it need not be an address of the host.
class Buffer {
 public:
  virtual ~Buffer() = default;
  std::byte* data() const { return data_; }
  std::size_t size() const { return size_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 protected:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// What tells steps apart that a backend may prepare once and run many times: two steps of equal shape make
/// the same calls of ops, and only the contents and lengths of their spans differ.
struct StepShape {
  enum class Kind : std::uint8_t {
    decode,  ///< few rows, mostly one a sequence; results do not depend on how many there are
    text     ///< any rows; results do not depend on how a text is cut into steps
  };
  Kind kind = Kind::text;
  bool host_decides = false;  ///< what later ops are given depends on earlier ones, or calls leave a trace
  std::int32_t n_tokens = 0, n_sequences = 0, n_logit_rows = 0;
  std::int32_t max_position = 0;  ///< of any row

  auto operator<=>(const StepShape&) const = default;
};

struct DeviceMemory {
  std::int64_t total = 0, available = 0;  ///< bytes that this process may use, and what is left of them
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string_view name() const = 0;    ///< "cpu", "scalar", "cuda"
  virtual std::string description() const = 0;  ///< "CPU, AVX2, 2 threads": first its kind
  virtual Ops& ops() = 0;
  /// @throws Error (memory) naming the bytes and `purpose`
  virtual std::unique_ptr<Buffer> allocate(std::size_t bytes, std::string_view purpose) = 0;
  virtual int n_threads() const = 0;
  virtual DeviceMemory memory() const = 0;

  /// From host to device memory, after all ops called before; done when it returns.
  virtual void write(void* to, const void* from, std::size_t bytes) = 0;
  /// What device memory holds after all ops called before, at an address of the host, which is good until the
  /// next read.
  virtual const void* read(const void* from, std::size_t bytes) = 0;

  /// Whether ops give a row the same bits in steps of either kind. If not, rows of both kinds must not share
  /// a step.
  virtual bool kinds_agree() const { return true; }
  /// Runs `step`, which calls ops and may be called twice: the second time must be as the first; once, if the
  /// host decides in between. Calls outside of a step are right too, but slower. A backend may record the
  /// calls of a decode step and later start all of them at once.
  virtual void run_step(const StepShape& shape, const std::function<void()>& step) = 0;

  /// Sums `bytes` of device memory with all threads, for measuring bandwidth. @return seconds taken
  virtual double time_read(const std::byte* data, std::size_t bytes) = 0;
};

struct BackendOptions {
  std::string_view device = "auto";  ///< auto | cpu | scalar | cuda | cuda:N
  int n_threads = 0;                 ///< of the CPU; 0: all cores
  std::int64_t memory_limit = 0;     ///< bytes of device memory that may be used; 0: all there is
  bool exact = false;                ///< products in f32 throughout, where the default rounds activations
};

/// @throws Error (device) for a device this build or machine does not have
std::unique_ptr<Backend> make_backend(const BackendOptions& options);
inline std::unique_ptr<Backend> make_backend(std::string_view device, int n_threads) {
  return make_backend(BackendOptions{.device = device, .n_threads = n_threads});
}

}  // namespace cga
