// Steps: calls of ops, between most of which the host decides nothing. Ops do two things here. They put what
// they read from host memory (ids, positions, pages) where kernels find it, and they start kernels. A step of
// decoding is the same kernels every time, so what it starts is recorded as a CUDA graph; from then on its
// ops only put their data, and one launch does the rest.
//
// Where the host decides within a step (StepShape), it needs results before it can say what comes next, so
// the step is cut there. Each part is put off until its end is known, and then recorded and launched as a
// step is; what is different in every step runs between parts.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "kernels/cuda/runtime/device.h"

namespace cga::cuda {

/// What identifies a step, or a part of one: everything its kernels are given by value. Eight bytes at a
/// time, since a step is identified anew for every token.
class StepHash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += sizeof(std::uint64_t)) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, std::min(sizeof word, bytes.size() - at));
      value_ = (value_ ^ word) * 0x9e3779b97f4a7c15u;
      value_ ^= value_ >> 32;
    }
  }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

class Steps {
 public:
  /// How often whole steps, and parts of steps, were started one kernel after the other, recorded as a graph
  /// (and launched), or launched as one that was there.
  struct Counts {
    std::int64_t direct = 0, recorded = 0, replayed = 0;
  };

  explicit Steps(Device& device);
  static std::int64_t bytes();  ///< of device memory
  ~Steps();
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;

  /// For what does not go through launch(): everything that was put off is started first.
  cudaStream_t stream() {
    settle();
    return stream_;
  }

  /// Runs a step; `step` is called once, or twice when it is recorded as a whole, which is never if the host
  /// decides.
  void run(const StepShape& shape, const std::function<void()>& step);

  /// A bound of positions, or of other numbers of tokens, that few steps cross: what grids are made for.
  static std::int32_t bound_of(std::int32_t n_tokens);
  /// Of the step's positions.
  std::int32_t position_bound() const { return position_bound_; }
  /// Which kernels the step takes: those for few rows.
  bool is_decode() const { return kind_ == StepShape::Kind::decode; }
  bool host_decides() const { return host_decides_; }
  /// Whether the step, or a part of it, may be one of many that differ in what they read only: then lists are
  /// put with room to grow.
  bool may_be_recorded() const { return may_be_recorded_; }
  const Counts& counts() const { return counts_; }

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
    if (mode_ != Mode::put_only && mode_ != Mode::put_off) return;
    (hash_.add(std::as_bytes(std::span<const Values, 1>(&values, 1))), ...);
  }

  /// Starts kernels, unless only data is put. `values` are all that the kernels are given by value: pointers
  /// and numbers.
  /// @param start  called with the stream, perhaps after the op has returned: what it captures, it owns
  template <class Start, class... Values>
  void launch(Start&& start, const Values&... values) {
    identify(values...);
    if (mode_ == Mode::put_off) {
      pending_.emplace_back(std::forward<Start>(start));
    } else if (mode_ != Mode::put_only) {
      send_lists();
      start(stream_);
    }
    filling_.end_op();
  }

  /// From here to end_apart() the ops of a step that is cut into parts start their kernels at once, and their
  /// lists lie elsewhere: for ops whose lists are of another length in every step. In other steps, nothing.
  void begin_apart();
  void end_apart();
  /// What is left of the step is not put off.
  void run_rest_directly();

  /// Starts everything that was put off, as a part of the step. Whoever makes the host wait, or frees memory
  /// that kernels were given, calls it before.
  void settle();
  void synchronize();

  /// Waits, and forgets what was recorded. Whoever frees memory that a copy was started to or from calls it
  /// before: a recorded copy keeps the allocation that it was given, not its address alone, and must not be
  /// launched once that is gone, not even if the next allocation has the same address, so that the step has
  /// the same hash. Recorded kernels keep addresses only.
  void forget();

 private:
  enum class Mode { start, put_only, record, put_off };
  static constexpr std::size_t arena_bytes = std::size_t{4} << 20;
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
  /// An arena that is being filled.
  struct Filling {
    Arena* arena = nullptr;
    std::size_t at = 0, sent = 0;
    std::vector<Placed> placed;        // in this step
    std::size_t lowest = arena_bytes;  // of the lists that the op at hand was given: from there on they stay
    std::size_t end = arena_bytes;     // what may be filled

    void begin(Arena& anew) {
      arena = &anew;
      at = sent = 0;
      placed.clear();
      end_op();
    }
    void end_op() { lowest = end = arena_bytes; }
  };

  const std::byte* put_bytes(const void* from, std::size_t bytes, std::size_t room);
  /// Sends what was put and not sent yet, in one copy; of a whole step that is recorded, its graph does.
  void send_lists();
  Arena& next_arena();
  /// Waits until an arena can be filled anew.
  void wait_for(const Arena& arena);
  void mark_read(const Arena& arena);
  void begin(const StepShape& shape, Mode mode, Arena& arena);
  void end();
  void run_directly(const StepShape& shape, const std::function<void()>& step);
  void run_whole(const StepShape& shape, const std::function<void()>& step);
  void run_in_parts(const StepShape& shape, const std::function<void()>& step);
  /// @return the graph of a hash, recorded if it has been seen before; null: it has not
  cudaGraphExec_t graph_of(std::uint64_t hash, const std::function<void()>& start);
  cudaGraphExec_t record(const std::function<void()>& start);
  void forget_graphs();

  cudaStream_t stream_ = nullptr;
  std::vector<Arena> arenas_;  // the first is the graphs'; the others take turns
  std::size_t next_arena_ = 1;

  // Of the step that runs, or of calls outside of any:
  Mode mode_ = Mode::start;
  StepShape::Kind kind_ = StepShape::Kind::text;
  bool host_decides_ = false, may_be_recorded_ = false, in_step_ = false, is_apart_ = false;
  bool put_outside_ = false;  // whether data was put since the last step ended
  std::int32_t position_bound_ = 0;
  Filling filling_, apart_;  // apart_: of what runs between parts; while it does, the parts'
  StepHash hash_;            // of the step, or of its part
  std::vector<std::function<void(cudaStream_t)>> pending_;  // what the part will start

  std::unordered_map<std::uint64_t, cudaGraphExec_t> graphs_;
  std::unordered_set<std::uint64_t> seen_;  // hashes that came at least once
  std::size_t n_nodes_ = 0;                 // of all graphs
  Counts counts_;
};

}  // namespace cga::cuda
