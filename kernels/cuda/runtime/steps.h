// Steps: calls of ops, between most of which the host decides nothing. Ops do two things here. They put what
// they read from host memory (ids, positions, pages) where kernels find it, and they start kernels. A step of
// decoding is the same kernels every time, so what it starts is recorded as a CUDA graph; from then on its
// ops only put their data, and one launch does the rest. A step in which the host decides (StepShape) runs
// directly.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "kernels/cuda/runtime/device.h"

namespace cga::cuda {

/// What identifies a step: everything its kernels are given by value. FNV-1a, 64 bits.
class StepHash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte byte : bytes) value_ = (value_ ^ std::to_integer<unsigned>(byte)) * 0x100000001b3u;
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

class Steps {
 public:
  explicit Steps(Device& device);
  static std::int64_t bytes();  ///< of device memory
  ~Steps();
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;

  cudaStream_t stream() const { return stream_; }

  /// Runs a step; `step` is called once, or twice when it is recorded, which is never if the host decides.
  void run(const StepShape& shape, const std::function<void()>& step);

  /// A bound of numbers of tokens that few steps cross: what grids are made for.
  static std::int32_t bound_of(std::int32_t n_tokens);
  /// Of the step's positions.
  std::int32_t position_bound() const { return position_bound_; }
  /// Which kernels the step takes: those for few rows.
  bool is_decode() const { return kind_ == StepShape::Kind::decode; }
  /// Whether the step may be one of many that differ in what they read only: then lists are put with room to
  /// grow.
  bool may_be_recorded() const { return may_be_recorded_; }

  /// Puts host data where kernels can read it. @return where: [max(values.size(), room)], device memory,
  /// valid until the step ends. Data put before in this step is not put again.
  template <class T>
  const T* put(std::span<const T> values, std::size_t room = 0) {
    return reinterpret_cast<const T*>(
        put_bytes(values.data(), values.size_bytes(), std::max(values.size_bytes(), room * sizeof(T))));
  }

  /// Makes values part of what the step is known by. None may have padding.
  template <class... Values>
  void identify(const Values&... values) {
    (hash_.add(std::as_bytes(std::span<const Values, 1>(&values, 1))), ...);
  }

  /// Starts kernels, unless only data is put. `values` are all that the kernels are given by value: pointers
  /// and numbers.
  template <class Start, class... Values>
  void launch(Start&& start, const Values&... values) {
    identify(values...);
    if (mode_ != Mode::put_only) start(stream_);
  }

  void synchronize();

 private:
  enum class Mode { start, put_only, record };
  /// Pinned memory of the host and device memory of equal size, filled front to back.
  struct Arena {
    std::byte* host = nullptr;
    std::unique_ptr<DeviceArray> device;
    cudaEvent_t read = nullptr;  // after everything that reads it
  };
  struct Placed {
    const void* from;
    std::size_t bytes, offset;
  };

  const std::byte* put_bytes(const void* from, std::size_t bytes, std::size_t room);
  /// Waits until an arena can be filled anew.
  void wait_for(const Arena& arena);
  void begin(const StepShape& shape, Mode mode, Arena& arena);
  void end();
  void run_directly(const StepShape& shape, const std::function<void()>& step);
  cudaGraphExec_t record(const StepShape& shape, const std::function<void()>& step, std::size_t bytes);

  cudaStream_t stream_ = nullptr;
  std::vector<Arena> arenas_;  // the first is the graphs'; the others take turns
  std::size_t next_arena_ = 1;

  // Of the step that runs, or of calls outside of any:
  Mode mode_ = Mode::start;
  StepShape::Kind kind_ = StepShape::Kind::text;
  bool may_be_recorded_ = false, in_step_ = false;
  bool put_outside_ = false;  // whether data was put since the last step ended
  std::int32_t position_bound_ = 0;
  Arena* arena_ = nullptr;
  std::size_t at_ = 0;  // in the arena
  std::vector<Placed> placed_;
  StepHash hash_;

  std::unordered_map<std::uint64_t, cudaGraphExec_t> graphs_;  // null: seen once, not recorded yet
};

}  // namespace cga::cuda
