// The memory plan: what a configuration takes, computed from numbers alone.
#pragma once

#include "cga/engine.h"
#include "format/model_file.h"
#include "kernels/ops.h"
#include "model/family.h"
#include "model/hparams.h"

namespace cga {

/// @param options  with defaults resolved
/// @param ops      of the backend that will hold the weights
MemoryPlan plan_memory(const EngineOptions& options, const ModelFile& file, const Family& family,
                       const Hparams& hparams, const Ops& ops);

/// @throws Error (memory) with both numbers if the plan exceeds the memory of this machine or container
void check_fits(const MemoryPlan& plan);

KvLayout kv_layout(const Hparams& hparams, KvType type);

}  // namespace cga
