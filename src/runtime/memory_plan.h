// The memory plan: what a configuration takes, computed from numbers alone.
#pragma once

#include "backend/backend.h"
#include "cga/engine.h"
#include "cga/sidecar.h"
#include "format/model_file.h"
#include "kernels/ops.h"
#include "model/family.h"
#include "model/hparams.h"

namespace cga {

BackendOptions backend_options(const EngineOptions& options);

/// @param options  with defaults resolved
/// @param ops      of the backend that will hold the weights
/// @param sidecar  null: none; a compact cache is then planned for the sidecar that would be made
MemoryPlan plan_memory(const EngineOptions& options, const ModelFile& file, const Family& family,
                       const Hparams& hparams, const Ops& ops, const Sidecar* sidecar);

/// @param plan_at  the same plan for another n_ctx
/// @throws Error (memory) with both numbers, and the largest context that fits, if the plan exceeds what is
///         there
void check_fits(const MemoryPlan& plan, const DeviceMemory& memory,
                const std::function<MemoryPlan(std::int32_t)>& plan_at);

/// @throws Error (usage) if heads cannot be cut into the blocks of `type`
KvLayout kv_layout(const Hparams& hparams, KvType type);

/// Has ops take their scratch memory now, as planned.
void reserve_work(const EngineOptions& options, const Hparams& hparams, std::int64_t n_vocab, Ops& ops);

/// Bytes of one page under cga; 0 for any other kind of cache.
struct CompactBytes {
  std::int64_t archive_page = 0;  // of codes, all groups
  std::int64_t index_page = 0;    // of index keys, all anchors; 0: nothing is chosen by an index
};

/// Bytes of the keys and values of one sequence of n_tokens that may grow to options.n_ctx.
KvUsage kv_usage(const EngineOptions& options, const Hparams& hparams, const CompactBytes& bytes,
                 std::int32_t n_tokens);

}  // namespace cga
