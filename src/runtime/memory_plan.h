// The memory plan: what a configuration takes, computed from numbers alone.
#pragma once

#include "cga/engine.h"
#include "model/hparams.h"

namespace cga {

/// @param options  with defaults resolved
MemoryPlan plan_memory(const EngineOptions& options, const Hparams& hparams, std::int64_t n_vocab,
                       std::int64_t weight_bytes);

/// @throws Error (memory) with both numbers if the plan exceeds the machine's memory
void check_fits(const MemoryPlan& plan);

KvLayout kv_layout(const Hparams& hparams, KvType type);

}  // namespace cga
