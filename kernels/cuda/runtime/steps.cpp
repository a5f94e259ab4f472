#include "kernels/cuda/runtime/steps.h"

#include <algorithm>
#include <bit>

#include "cga/error.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr std::size_t arena_bytes = std::size_t{4} << 20;
constexpr std::size_t n_arenas = 4;
constexpr std::size_t most_graphs = 128;  // shapes of steps: a bound of memory, not of use

}  // namespace

std::int32_t Steps::bound_of(std::int32_t n_tokens) {
  return static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(std::max(n_tokens, 256))));
}

Steps::Steps(Device& device) : arenas_(n_arenas) {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream");
  for (Arena& arena : arenas_) {
    void* host = nullptr;
    check(cudaMallocHost(&host, arena_bytes), "pinned memory for steps");
    arena.host = static_cast<std::byte*>(host);
    arena.device = std::make_unique<DeviceArray>(device, arena_bytes, "lists of steps");
    check(cudaEventCreateWithFlags(&arena.read, cudaEventDisableTiming), "making an event");
  }
  arena_ = &arenas_[next_arena_];
}

std::int64_t Steps::bytes() {
  return static_cast<std::int64_t>(n_arenas * arena_bytes);
}

Steps::~Steps() {
  cudaStreamSynchronize(stream_);
  for (const auto& [hash, graph] : graphs_) {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
  for (const Arena& arena : arenas_) {
    cudaEventDestroy(arena.read);
    cudaFreeHost(arena.host);
  }
  cudaStreamDestroy(stream_);
}

void Steps::synchronize() {
  check(cudaStreamSynchronize(stream_), "running kernels");
}

const std::byte* Steps::put_bytes(const void* from, std::size_t bytes, std::size_t room) {
  if (in_step_) {
    for (const Placed& placed : placed_) {
      if (placed.from != from || placed.bytes != bytes) continue;
      if (std::memcmp(arena_->host + placed.offset, from, bytes) != 0) continue;
      return arena_->device->data() + placed.offset;
    }
  }
  const std::size_t size = (std::max<std::size_t>(room, 1) + 15) / 16 * 16;
  if (at_ + size > arena_bytes) {
    if (size > arena_bytes || mode_ != Mode::start) {
      throw Error(ErrorKind::memory, "step",
                  "its lists take more than " + std::to_string(arena_bytes) + " bytes",
                  "use fewer sequences or a smaller context (-c)");
    }
    synchronize();
    at_ = 0;
    placed_.clear();
  }
  std::memcpy(arena_->host + at_, from, bytes);
  std::byte* const to = arena_->device->data() + at_;
  if (mode_ == Mode::start) {
    check(cudaMemcpyAsync(to, arena_->host + at_, bytes, cudaMemcpyHostToDevice, stream_), "sending lists");
  }
  if (in_step_) placed_.push_back({from, bytes, at_});
  put_outside_ = put_outside_ || !in_step_;
  at_ += size;
  return to;
}

void Steps::wait_for(const Arena& arena) {
  // What was put outside of steps went on filling the last step's arena, after its event.
  if (put_outside_) check(cudaEventRecord(arena_->read, stream_), "marking calls outside of steps");
  put_outside_ = false;
  check(cudaEventSynchronize(arena.read), "waiting for an earlier step");
}

void Steps::begin(const StepShape& shape, Mode mode, Arena& arena) {
  mode_ = mode;
  kind_ = shape.kind;
  may_be_recorded_ = is_decode() && !shape.host_decides;
  position_bound_ = bound_of(shape.max_position + 1);
  arena_ = &arena;
  at_ = 0;
  placed_.clear();
  hash_ = {};
  in_step_ = true;
}

void Steps::end() {
  in_step_ = false;
  mode_ = Mode::start;
  kind_ = StepShape::Kind::text;
  may_be_recorded_ = false;
  placed_.clear();
}

void Steps::run(const StepShape& shape, const std::function<void()>& step) {
  struct Ending {
    Steps& steps;
    ~Ending() { steps.end(); }
  } const ending{*this};
  if (shape.kind != StepShape::Kind::decode || shape.host_decides) return run_directly(shape, step);

  Arena& arena = arenas_[0];
  wait_for(arena);
  begin(shape, Mode::put_only, arena);
  step();
  const std::uint64_t hash = hash_.value();
  const std::size_t bytes = at_;
  const auto known = graphs_.find(hash);
  if (known == graphs_.end()) {
    // Most shapes of a first step never come again, and kernels must be loaded before they can be recorded.
    if (graphs_.size() < most_graphs) graphs_.emplace(hash, nullptr);
    return run_directly(shape, step);
  }
  if (known->second == nullptr) known->second = record(shape, step, bytes);
  check(cudaGraphLaunch(known->second, stream_), "starting a step");
  check(cudaEventRecord(arena.read, stream_), "marking the end of a step");
}

void Steps::run_directly(const StepShape& shape, const std::function<void()>& step) {
  Arena& arena = arenas_[next_arena_];
  next_arena_ = next_arena_ + 1 < arenas_.size() ? next_arena_ + 1 : 1;
  wait_for(arena);
  begin(shape, Mode::start, arena);
  step();
  check(cudaEventRecord(arena.read, stream_), "marking the end of a step");
}

cudaGraphExec_t Steps::record(const StepShape& shape, const std::function<void()>& step, std::size_t bytes) {
  begin(shape, Mode::record, arenas_[0]);
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording a step");
  cudaGraph_t graph = nullptr;
  try {
    check(cudaMemcpyAsync(arena_->device->data(), arena_->host, bytes, cudaMemcpyHostToDevice, stream_),
          "recording a step");
    step();
  } catch (...) {
    cudaStreamEndCapture(stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream_, &graph), "recording a step");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(made, "preparing a step");
  return executable;
}

}  // namespace cga::cuda
