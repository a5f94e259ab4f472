#include "runtime/memory_plan.h"

#include <unistd.h>

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

/// What a decode step will read: every tensor but an embedding that is not the head too.
WeightSizes measure_weights(const ModelFile& file, const Family& family, const Ops& ops) {
  const bool tied = file.find(family.names.head) == nullptr;
  WeightSizes sizes;
  for (const FileTensor& tensor : file.tensors()) {
    const WeightType* type = find_weight_type(tensor.type_id);
    if (type == nullptr) continue;  // loading will refuse it, with its name
    const std::int64_t rows = tensor.n_dims == 2 ? tensor.shape[1] : 1;
    const bool embedding = tensor.name == family.names.embedding;
    if (embedding) sizes.n_vocab = rows;
    if (embedding && !tied) continue;
    const WeightView view{tensor.name, type, rows, tensor.shape[0], tensor.data.data()};
    sizes.bytes += tensor.n_dims == 2 ? ops.prepared_bytes(view) : view.cols * 4;  // vectors become f32
  }
  return sizes;
}

}  // namespace

MemoryPlan plan_memory(const EngineOptions& options, const Hparams& hparams, std::int64_t n_vocab,
                       std::int64_t weight_bytes) {
  const std::int64_t n_pages = std::int64_t{div_up(options.n_ctx, page_tokens)} * options.n_sequences;
  const auto cache_bytes = [&](KvType type) {
    return kv_layout(hparams, type).page_bytes() * n_pages * hparams.n_layers;
  };
  MemoryPlan plan;
  plan.n_ctx = options.n_ctx;
  plan.n_sequences = options.n_sequences;
  plan.weights = weight_bytes;
  plan.kv = cache_bytes(options.kv);
  plan.kv_bf16 = cache_bytes(KvType::bf16);
  plan.scratch = Activations::bytes(hparams, options.n_ubatch) +
                 options.n_sequences * n_vocab * static_cast<std::int64_t>(sizeof(float));
  return plan;
}

MemoryPlan plan_memory(const EngineOptions& options) {
  const std::unique_ptr<ModelFile> file = open_model(options);
  const Family& family = family_of(*file);
  const Hparams hparams = read_hparams(*file, family);
  EngineOptions resolved = options;
  if (resolved.n_ctx == 0) resolved.n_ctx = hparams.n_ctx_train;
  const auto backend = make_backend(options.device, options.n_threads);
  const WeightSizes sizes = measure_weights(*file, family, backend->ops());
  return plan_memory(resolved, hparams, sizes.n_vocab, sizes.bytes);
}

void check_fits(const MemoryPlan& plan) {
  const std::int64_t machine = std::int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  if (plan.total() <= machine) return;
  throw Error(ErrorKind::memory, "memory plan",
              std::to_string(plan.total()) + " bytes are needed (weights " + std::to_string(plan.weights) +
                  ", KV cache " + std::to_string(plan.kv) + ", scratch " + std::to_string(plan.scratch) +
                  "), the machine has " + std::to_string(machine),
              "use a smaller context (-c), fewer sequences or a smaller model");
}

}  // namespace cga
