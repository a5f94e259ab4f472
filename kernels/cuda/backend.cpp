#include "kernels/cuda/backend.h"

#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/elementwise/elementwise.h"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/runtime/device.h"
#include "kernels/cuda/runtime/landing.h"
#include "kernels/cuda/runtime/steps.h"

namespace cga::cuda {
namespace {

class CudaBackend final : public Backend {
 public:
  CudaBackend(int ordinal, std::int64_t memory_limit, bool exact)
      : device_(ordinal, memory_limit), steps_(device_), ops_(device_, steps_, exact) {}
  ~CudaBackend() override { cudaStreamSynchronize(steps_.stream()); }

  std::string_view name() const override { return "cuda"; }
  std::string description() const override { return device_.description(); }
  Ops& ops() override { return ops_; }
  std::unique_ptr<Buffer> allocate(std::size_t bytes, std::string_view purpose) override {
    return allocate_device(device_, bytes, purpose);
  }
  int n_threads() const override { return 1; }
  DeviceMemory memory() const override { return device_.memory(); }
  bool kinds_agree() const override { return false; }

  void write(void* to, const void* from, std::size_t bytes) override {
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, steps_.stream()), "writing to the device");
    steps_.synchronize();
  }

  const void* read(const void* from, std::size_t bytes) override {
    void* const to = landing_.need(bytes);
    check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, steps_.stream()),
          "reading from the device");
    steps_.synchronize();
    return to;
  }

  void run_step(const StepShape& shape, const std::function<void()>& step) override {
    steps_.run(shape, step);
  }

  double time_read(const std::byte* data, std::size_t bytes) override {
    const DeviceArray sink(device_, sizeof(unsigned), "bandwidth probe");
    Event start, end;
    check(cudaEventRecord(start.event, steps_.stream()), "timing");
    read_all(data, bytes, reinterpret_cast<unsigned*>(sink.data()), steps_.stream());
    check(cudaEventRecord(end.event, steps_.stream()), "timing");
    steps_.synchronize();
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start.event, end.event), "timing");
    return double{milliseconds} / 1000;
  }

 private:
  struct Event {
    Event() { check(cudaEventCreate(&event), "making an event"); }
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;
    ~Event() { cudaEventDestroy(event); }
    cudaEvent_t event = nullptr;
  };

  Device device_;
  Steps steps_;
  CudaOps ops_;
  Landing landing_;
};

}  // namespace

bool has_device() {
  return has_usable_device();
}

std::unique_ptr<Backend> make_backend(int ordinal, std::int64_t memory_limit, bool exact) {
  return std::make_unique<CudaBackend>(ordinal, memory_limit, exact);
}

}  // namespace cga::cuda
