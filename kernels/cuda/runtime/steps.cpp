#include "kernels/cuda/runtime/steps.h"

#include <algorithm>
#include <bit>

#include "cga/error.h"
#include "kernels/cuda/runtime/check.h"

namespace cga::cuda {
namespace {

constexpr std::size_t n_arenas = 4;
// What is remembered is bounded for its memory's sake: when it is full, all of it is forgotten, and what is
// still in use soon comes back. A node of a graph is a kernel or a copy, and takes some kilobytes of the host
// and of the device together (an estimate; the driver does not say). A step of 30 layers is 200 to 400 nodes,
// whether it is one graph or cut into a dozen.
constexpr std::size_t most_nodes = std::size_t{1} << 15;
constexpr std::size_t most_seen = std::size_t{1} << 16;

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
  filling_.begin(arenas_[next_arena_]);
}

std::int64_t Steps::bytes() {
  return static_cast<std::int64_t>(n_arenas * arena_bytes);
}

Steps::~Steps() {
  cudaStreamSynchronize(stream_);
  forget_graphs();
  for (const Arena& arena : arenas_) {
    cudaEventDestroy(arena.read);
    cudaFreeHost(arena.host);
  }
  cudaStreamDestroy(stream_);
}

void Steps::synchronize() {
  settle();
  check(cudaStreamSynchronize(stream_), "running kernels");
}

void Steps::forget() {
  synchronize();
  forget_graphs();
}

const std::byte* Steps::put_bytes(const void* from, std::size_t bytes, std::size_t room) {
  if (in_step_) {
    for (const Placed& placed : filling_.placed) {
      if (placed.from != from || placed.bytes != bytes) continue;
      if (std::memcmp(filling_.arena->host + placed.offset, from, bytes) != 0) continue;
      filling_.lowest = std::min(filling_.lowest, placed.offset);
      return filling_.arena->device->data() + placed.offset;
    }
  }
  const std::size_t size = (std::max<std::size_t>(room, 1) + 15) / 16 * 16;
  if (filling_.at + size > filling_.end) {
    run_rest_directly();
    const std::size_t free = std::min(filling_.lowest, filling_.end);
    if (size > free || mode_ != Mode::start) {
      throw Error(ErrorKind::memory, "step",
                  "its lists take more than " + std::to_string(arena_bytes) + " bytes",
                  "use fewer sequences or a smaller context (-c)");
    }
    send_lists();
    synchronize();
    filling_.begin(*filling_.arena);
    filling_.lowest = filling_.end = free;
  }
  std::byte* const there = filling_.arena->host + filling_.at;
  std::byte* const to = filling_.arena->device->data() + filling_.at;
  std::memcpy(there, from, bytes);
  if (in_step_) filling_.placed.push_back({from, bytes, filling_.at});
  filling_.lowest = std::min(filling_.lowest, filling_.at);
  put_outside_ = put_outside_ || !in_step_;
  filling_.at += size;
  return to;
}

void Steps::begin_apart() {
  if (mode_ != Mode::put_off) return;
  settle();
  std::swap(filling_, apart_);
  mode_ = Mode::start;
  is_apart_ = true;
}

void Steps::end_apart() {
  if (!is_apart_) return;
  std::swap(filling_, apart_);
  mode_ = Mode::put_off;
  is_apart_ = false;
}

void Steps::run_rest_directly() {
  if (mode_ != Mode::put_off) return;
  settle();
  send_lists();
  mode_ = Mode::start;
  may_be_recorded_ = false;
}

void Steps::send_lists() {
  if (mode_ == Mode::record || filling_.at == filling_.sent) return;
  check(cudaMemcpyAsync(filling_.arena->device->data() + filling_.sent, filling_.arena->host + filling_.sent,
                        filling_.at - filling_.sent, cudaMemcpyHostToDevice, stream_),
        "sending lists");
  filling_.sent = filling_.at;
}

void Steps::settle() {
  if (pending_.empty()) return;
  // Not in the graph: while the lists are on their way, the host is busy launching it.
  send_lists();
  const auto start = [&] {
    for (const auto& launch : pending_) launch(stream_);
  };
  const cudaGraphExec_t graph = graph_of(hash_.value(), start);
  if (graph == nullptr) {
    start();
    ++counts_.direct;
  } else {
    check(cudaGraphLaunch(graph, stream_), "starting a part of a step");
  }
  pending_.clear();
  hash_ = {};
}

Steps::Arena& Steps::next_arena() {
  Arena& arena = arenas_[next_arena_];
  next_arena_ = next_arena_ + 1 < arenas_.size() ? next_arena_ + 1 : 1;
  return arena;
}

void Steps::wait_for(const Arena& arena) {
  // What was put outside of steps went on filling the last step's arena, after its event.
  if (put_outside_) mark_read(*filling_.arena);
  put_outside_ = false;
  check(cudaEventSynchronize(arena.read), "waiting for an earlier step");
}

void Steps::mark_read(const Arena& arena) {
  check(cudaEventRecord(arena.read, stream_), "marking the end of a step");
}

void Steps::begin(const StepShape& shape, Mode mode, Arena& arena) {
  mode_ = mode;
  kind_ = shape.kind;
  host_decides_ = shape.host_decides;
  may_be_recorded_ = mode == Mode::put_off || (is_decode() && !host_decides_);
  position_bound_ = bound_of(shape.max_position + 1);
  filling_.begin(arena);
  hash_ = {};
  in_step_ = true;
}

void Steps::end() {
  in_step_ = is_apart_ = false;
  mode_ = Mode::start;
  kind_ = StepShape::Kind::text;
  host_decides_ = may_be_recorded_ = false;
  filling_.placed.clear();
  filling_.sent = filling_.at;  // nobody reads a step's lists after it
  pending_.clear();
}

void Steps::run(const StepShape& shape, const std::function<void()>& step) {
  struct Ending {
    Steps& steps;
    ~Ending() { steps.end(); }
  } const ending{*this};
  if (shape.kind != StepShape::Kind::decode) return run_directly(shape, step);
  if (!shape.host_decides) return run_whole(shape, step);
  // Several rows of a sequence are tokens that are known already. How many there are changes from step to
  // step, and many share what starting their kernels takes.
  if (shape.n_tokens != shape.n_sequences) return run_directly(shape, step);
  run_in_parts(shape, step);
}

void Steps::run_directly(const StepShape& shape, const std::function<void()>& step) {
  Arena& arena = next_arena();
  wait_for(arena);
  begin(shape, Mode::start, arena);
  try {
    step();
  } catch (...) {
    cudaStreamSynchronize(stream_);  // as below
    throw;
  }
  mark_read(arena);
  ++counts_.direct;
}

void Steps::run_whole(const StepShape& shape, const std::function<void()>& step) {
  Arena& arena = arenas_[0];
  wait_for(arena);
  begin(shape, Mode::put_only, arena);
  step();
  const std::size_t bytes = filling_.at;
  const cudaGraphExec_t graph = graph_of(hash_.value(), [&] {
    begin(shape, Mode::record, arena);
    check(cudaMemcpyAsync(arena.device->data(), arena.host, bytes, cudaMemcpyHostToDevice, stream_),
          "recording a step");
    step();
  });
  if (graph == nullptr) return run_directly(shape, step);
  check(cudaGraphLaunch(graph, stream_), "starting a step");
  mark_read(arena);
}

void Steps::run_in_parts(const StepShape& shape, const std::function<void()>& step) {
  Arena& arena = arenas_[0];
  Arena& apart = next_arena();
  wait_for(arena);
  wait_for(apart);
  begin(shape, Mode::put_off, arena);
  apart_.begin(apart);
  try {
    step();
    end_apart();
    settle();
  } catch (...) {
    cudaStreamSynchronize(stream_);  // what was started reads lists that the next step overwrites
    throw;
  }
  mark_read(arena);
  mark_read(apart);
}

cudaGraphExec_t Steps::graph_of(std::uint64_t hash, const std::function<void()>& start) {
  const auto known = graphs_.find(hash);
  if (known != graphs_.end()) {
    ++counts_.replayed;
    return known->second;
  }
  if (seen_.size() >= most_seen) seen_.clear();
  if (seen_.insert(hash).second) {
    // Most shapes of a first step never come again, and kernels must be loaded before they can be recorded.
    return nullptr;
  }
  if (n_nodes_ >= most_nodes) {
    check(cudaStreamSynchronize(stream_), "running what was recorded");
    forget_graphs();
  }
  const cudaGraphExec_t graph = record(start);
  graphs_.emplace(hash, graph);
  ++counts_.recorded;
  return graph;
}

cudaGraphExec_t Steps::record(const std::function<void()>& start) {
  check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "recording a step");
  cudaGraph_t graph = nullptr;
  try {
    start();
  } catch (...) {
    cudaStreamEndCapture(stream_, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check(cudaStreamEndCapture(stream_, &graph), "recording a step");
  std::size_t n_nodes = 0;
  const cudaError_t counted = cudaGraphGetNodes(graph, nullptr, &n_nodes);
  cudaGraphExec_t executable = nullptr;
  const cudaError_t made = cudaGraphInstantiate(&executable, graph, 0);
  cudaGraphDestroy(graph);
  check(counted, "counting what was recorded");
  check(made, "preparing a step");
  n_nodes_ += n_nodes;
  return executable;
}

void Steps::forget_graphs() {
  for (const auto& [hash, graph] : graphs_) cudaGraphExecDestroy(graph);
  graphs_.clear();
  n_nodes_ = 0;
}

}  // namespace cga::cuda
