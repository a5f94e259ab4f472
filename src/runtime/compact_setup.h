// What `--kv cga` needs before anything is loaded: the sidecar, and settings from options and its defaults.
#pragma once

#include <optional>
#include <vector>

#include "cga/compact_plan.h"
#include "cga/engine.h"
#include "cga/sidecar.h"
#include "format/model_file.h"
#include "model/family.h"
#include "model/hparams.h"

namespace cga {

/// The sidecar that the options name, or the one beside the model. Not opened if another kind of cache is
/// asked for. One beside the model that does not match is named in a warning and passed over.
/// @throws Error (bad_file) for a damaged one, or a named one that does not match; (usage) if one is needed
/// and there is none
std::optional<Sidecar> find_sidecar(const EngineOptions& options, const ModelFile& file, const Family& family,
                                    const Hparams& hparams);

/// Fills in what the options leave to the sidecar: kv, and for cga its settings.
/// @param options  with n_ctx resolved
/// @param sidecar  null if there is none
/// @throws Error (usage) for numbers out of range
void resolve_kv_options(EngineOptions& options, const Sidecar* sidecar);

/// @param options  resolved
CompactSettings compact_settings(const EngineOptions& options);

/// Sizes of one layer group of a sidecar, or of one as it would be made for a shape that has none.
struct GroupSize {
  std::int32_t n_layers = 0;
  LatentView transform;         // of an assumed group only n, m and w
  std::int64_t page_bytes = 0;  // of a coded page
};

/// @param bits  a value
std::vector<GroupSize> group_sizes(const Sidecar& sidecar, double bits);
std::vector<GroupSize> assumed_group_sizes(const Hparams& hparams, double bits);

/// Sizes of a sidecar's index, or of one as it would be made.
struct IndexSize {
  std::int64_t page_bytes = 0;    // of 64 tokens' keys, all anchors
  std::int64_t matrix_bytes = 0;  // of the anchors
};

/// @param sidecar  has an index; null: an assumed one
IndexSize index_size(const Hparams& hparams, const Sidecar* sidecar);

}  // namespace cga
