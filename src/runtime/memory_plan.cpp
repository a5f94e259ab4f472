#include "runtime/memory_plan.h"

#include <unistd.h>

#include <string>

#include "base/checked.h"
#include "model/forward.h"

namespace cga {

KvLayout kv_layout(const Hparams& hparams, KvType type) {
  return {hparams.attention.n_kv_heads, hparams.attention.head_dim,
          type == KvType::f32 ? KvElement::f32 : KvElement::bf16};
}

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
