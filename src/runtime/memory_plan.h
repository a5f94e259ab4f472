// The memory plan: what a configuration takes, computed from numbers alone.
#pragma once

#include "cga/engine.h"
#include "cga/sidecar.h"
#include "format/model_file.h"
#include "kernels/ops.h"
#include "model/family.h"
#include "model/hparams.h"

namespace cga {

/// @param options  with defaults resolved
/// @param ops      of the backend that will hold the weights
/// @param sidecar  null: none; a compact cache is then planned for the sidecar that would be made
MemoryPlan plan_memory(const EngineOptions& options, const ModelFile& file, const Family& family,
                       const Hparams& hparams, const Ops& ops, const Sidecar* sidecar);

/// @throws Error (memory) with both numbers if the plan exceeds the memory of this machine or container
void check_fits(const MemoryPlan& plan);

/// @throws Error (usage) if heads cannot be cut into the blocks of `type`
KvLayout kv_layout(const Hparams& hparams, KvType type);

/// Bytes of one page under cga; 0 for any other kind of cache.
struct CompactBytes {
  std::int64_t archive_page = 0;  // of codes, all groups
  std::int64_t index_page = 0;    // of index keys, all anchors; 0: nothing is chosen by an index
};

/// Bytes of the keys and values of one sequence of n_tokens that may grow to options.n_ctx.
KvUsage kv_usage(const EngineOptions& options, const Hparams& hparams, const CompactBytes& bytes,
                 std::int32_t n_tokens);

}  // namespace cga
