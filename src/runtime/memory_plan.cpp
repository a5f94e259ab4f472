#include "runtime/memory_plan.h"

#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <string>

#include "backend/backend.h"
#include "base/checked.h"
#include "model/forward.h"
#include "runtime/model_source.h"

namespace cga {

KvLayout kv_layout(const Hparams& hparams, KvType type) {
  return {hparams.attention.n_kv_heads, hparams.attention.head_dim,
          type == KvType::f32 ? KvElement::f32 : KvElement::bf16};
}

namespace {

struct WeightSizes {
  std::int64_t n_vocab = 0, bytes = 0;
};

/// What a decode step will read: every tensor but the factors of RoPE, which are folded into frequencies, and
/// an embedding that is not the head too.
WeightSizes measure_weights(const ModelFile& file, const Family& family, const Ops& ops) {
  const bool tied = file.find(family.names.head) == nullptr;
  WeightSizes sizes;
  for (const FileTensor& tensor : file.tensors()) {
    const WeightType* type = find_weight_type(tensor.type_id);
    if (type == nullptr) continue;  // loading will refuse it, with its name
    const std::int64_t rows = tensor.n_dims == 2 ? tensor.shape[1] : 1;
    const bool embedding = tensor.name == family.names.embedding;
    if (embedding) sizes.n_vocab = rows;
    if ((embedding && !tied) || tensor.name == family.names.rope_factors) continue;
    const WeightView view{tensor.name, type, rows, tensor.shape[0], tensor.data.data()};
    sizes.bytes += tensor.n_dims == 2 ? ops.prepared_bytes(view) : view.cols * 4;  // vectors become f32
  }
  return sizes;
}

/// Memory of the machine, or what a container may use of it: beyond that, the kernel ends the process.
std::int64_t memory_there() {
  std::int64_t there = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    std::FILE* file = std::fopen(path, "r");
    if (file == nullptr) continue;
    std::int64_t limit = 0;
    const bool has_limit = std::fscanf(file, "%" SCNd64, &limit) == 1;  // "max" is no number
    std::fclose(file);
    if (has_limit && limit > 0) there = std::min(there, limit);
  }
  return there;
}

}  // namespace

MemoryPlan plan_memory(const EngineOptions& options, const ModelFile& file, const Family& family,
                       const Hparams& hparams, const Ops& ops) {
  const WeightSizes sizes = measure_weights(file, family, ops);
  const std::int64_t n_pages = std::int64_t{div_up(options.n_ctx, page_tokens)} * options.n_sequences;
  const auto cache_bytes = [&](KvType type) {
    return kv_layout(hparams, type).page_bytes() * n_pages * hparams.n_layers;
  };
  MemoryPlan plan;
  plan.n_ctx = options.n_ctx;
  plan.n_sequences = options.n_sequences;
  plan.weights = sizes.bytes;
  plan.kv = cache_bytes(options.kv);
  plan.kv_bf16 = cache_bytes(KvType::bf16);
  plan.scratch = Activations::bytes(hparams, options.n_ubatch) +
                 options.n_sequences * sizes.n_vocab * static_cast<std::int64_t>(sizeof(float));
  return plan;
}

MemoryPlan plan_memory(const EngineOptions& options) {
  const std::unique_ptr<ModelFile> file = open_model(options);
  const Family& family = family_of(*file);
  const Hparams hparams = read_hparams(*file, family);
  EngineOptions resolved = options;
  if (resolved.n_ctx == 0) resolved.n_ctx = hparams.n_ctx_train;
  const auto backend = make_backend(options.device, options.n_threads);
  return plan_memory(resolved, *file, family, hparams, backend->ops());
}

void check_fits(const MemoryPlan& plan) {
  const std::int64_t there = memory_there();
  if (plan.total() <= there) return;
  throw Error(ErrorKind::memory, "memory plan",
              std::to_string(plan.total()) + " bytes are needed (weights " + std::to_string(plan.weights) +
                  ", KV cache " + std::to_string(plan.kv) + ", scratch " + std::to_string(plan.scratch) +
                  "), there are " + std::to_string(there),
              "use a smaller context (-c), fewer sequences or a smaller model");
}

}  // namespace cga
