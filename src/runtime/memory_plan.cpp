#include "runtime/memory_plan.h"

#include <algorithm>
#include <string>

#include "base/checked.h"
#include "cga/archive.h"
#include "cga/prefill_scratch.h"
#include "model/forward.h"
#include "runtime/compact_setup.h"
#include "runtime/model_source.h"

namespace cga {

namespace {

KvElement kv_element(KvType type) {
  switch (type) {
    case KvType::f32:
      return KvElement::f32;
    case KvType::q8:
      return KvElement::q8;
    case KvType::q4:
      return KvElement::q4;
    case KvType::automatic:
    case KvType::bf16:
    case KvType::cga:
      break;
  }
  return KvElement::bf16;
}

struct WeightSizes {
  std::int64_t n_vocab = 0, bytes = 0;
};

/// Every tensor as the backend will keep it, but the factors of RoPE, which are folded into frequencies. An
/// embedding is a table, a head if there is no other, or both.
WeightSizes measure_weights(const ModelFile& file, const Family& family, const Ops& ops) {
  const bool tied = file.find(family.names.head) == nullptr;
  WeightSizes sizes;
  for (const FileTensor& tensor : file.tensors()) {
    const WeightType* type = find_weight_type(tensor.type_id);
    if (type == nullptr) continue;  // loading will refuse it, with its name
    const std::int64_t rows = tensor.n_dims == 2 ? tensor.shape[1] : 1;
    const bool embedding = tensor.name == family.names.embedding;
    if (embedding) sizes.n_vocab = rows;
    if (embedding) {
      sizes.bytes += ops.prepared_table_bytes({tensor.name, type, rows, tensor.shape[0], tensor.data.data()});
    }
    if ((embedding && !tied) || tensor.name == family.names.rope_factors) continue;
    const WeightView view{tensor.name, type, rows, tensor.shape[0], tensor.data.data()};
    sizes.bytes += tensor.n_dims == 2 ? ops.prepared_bytes(view) : view.cols * 4;  // vectors become f32
  }
  return sizes;
}

/// The largest calls that an engine makes; `matrices` holds their shapes.
WorkShape work_shape(const EngineOptions& options, const Hparams& hparams, std::int64_t n_vocab,
                     std::vector<std::pair<std::int64_t, std::int64_t>>& matrices) {
  const AttentionShape& attention = hparams.attention;
  matrices = {{attention.q_dim(), hparams.dim},
              {hparams.dim, attention.q_dim()},
              {hparams.ffn_dim, hparams.dim},
              {hparams.dim, hparams.ffn_dim},
              {n_vocab, hparams.dim}};
  return {.n_tokens = options.n_ubatch,
          .n_sequences = options.n_sequences,
          .n_ctx = options.n_ctx,
          .n_heads = attention.n_heads,
          .head_dim = attention.head_dim,
          .matrices = matrices};
}

/// Adds what the codec takes beside keys and values.
void add_codec(MemoryPlan& plan, const EngineOptions& options, const Hparams& hparams, const Ops& ops,
               std::span<const GroupSize> groups) {
  const KvLayout layout = kv_layout(hparams, options.kv);
  std::int64_t n_channels = 0;
  std::int32_t n_layers = 0;
  for (const GroupSize& group : groups) {
    plan.transform += ops.prepared_latent_bytes(group.transform);
    n_channels = std::max(n_channels, group.transform.n);
    n_layers = std::max(n_layers, group.n_layers);
  }
  const CompactPlan pages(compact_settings(options), options.n_ctx);
  const std::int32_t transient =
      ops.takes_untouched_memory() ? pages.transient_pages() : pages.decode_transient_pages();
  plan.scratch += Archive::scratch_bytes(n_channels, n_layers, layout.head_dim) +
                  PageMemory::resident_page_bytes(layout) * transient * options.n_sequences;
  if (pages.archived_pages() == 0) return;  // a prompt that fits goes where it stays
  const std::int64_t hidden =
      std::int64_t{options.n_ctx} * hparams.dim * static_cast<std::int64_t>(sizeof(float));
  plan.prefill = hidden + PrefillScratch::bytes(layout, n_layers, options.n_ctx);
}

}  // namespace

void reserve_work(const EngineOptions& options, const Hparams& hparams, std::int64_t n_vocab, Ops& ops) {
  std::vector<std::pair<std::int64_t, std::int64_t>> matrices;
  ops.reserve_work(work_shape(options, hparams, n_vocab, matrices));
}

BackendOptions backend_options(const EngineOptions& options) {
  return {.device = options.device,
          .n_threads = options.n_threads,
          .memory_limit = options.memory_limit,
          .exact = options.exact};
}

KvLayout kv_layout(const Hparams& hparams, KvType type) {
  const KvLayout layout{hparams.attention.n_kv_heads, hparams.attention.head_dim, kv_element(type)};
  if (is_block_coded(layout.element) && layout.head_dim % kv_block_values != 0) {
    throw Error(ErrorKind::usage, type == KvType::q8 ? "--kv q8" : "--kv q4",
                "heads of this model have " + std::to_string(layout.head_dim) +
                    " values, expected a multiple of " + std::to_string(kv_block_values),
                "use --kv bf16");
  }
  return layout;
}

KvUsage kv_usage(const EngineOptions& options, const Hparams& hparams, const CompactBytes& bytes,
                 std::int32_t n_tokens) {
  const auto layers_bytes = [&](KvType type, std::int32_t n_pages) {
    return kv_layout(hparams, type).page_bytes() * hparams.n_layers * n_pages;
  };
  const std::int32_t n_pages = div_up(n_tokens, page_tokens);
  KvUsage usage;
  usage.bf16 = layers_bytes(KvType::bf16, n_pages);
  usage.exact = layers_bytes(options.kv, n_pages);
  if (options.kv != KvType::cga) return usage;
  const CompactPlan plan(compact_settings(options), options.n_ctx);
  const std::int32_t archived = plan.archived_pages(n_tokens);
  usage.exact = layers_bytes(options.kv, plan.exact_pages(n_tokens));
  usage.archive = bytes.archive_page * archived;
  const std::int32_t resident_pages =
      std::min(div_up(archived * page_tokens, resident_page_tokens), plan.resident_pages());
  usage.residents =
      PageMemory::resident_page_bytes(kv_layout(hparams, options.kv)) * hparams.n_layers * resident_pages;
  usage.kept = layers_bytes(options.kv, plan.kept_pages());
  usage.index = bytes.index_page * n_pages;
  return usage;
}

MemoryPlan plan_memory(const EngineOptions& options, const ModelFile& file, const Family& family,
                       const Hparams& hparams, const Ops& ops, const Sidecar* sidecar) {
  const WeightSizes sizes = measure_weights(file, family, ops);
  MemoryPlan plan;
  plan.n_ctx = options.n_ctx;
  plan.n_sequences = options.n_sequences;
  plan.weights = sizes.bytes;
  plan.scratch = Activations::bytes(hparams, options.n_ubatch) +
                 options.n_sequences * sizes.n_vocab * static_cast<std::int64_t>(sizeof(float));
  std::vector<std::pair<std::int64_t, std::int64_t>> matrices;
  WorkShape work = work_shape(options, hparams, sizes.n_vocab, matrices);
  CompactBytes bytes;
  if (options.kv == KvType::cga) {
    const std::vector<GroupSize> groups = sidecar != nullptr ? group_sizes(*sidecar, options.kv_bits)
                                                             : assumed_group_sizes(hparams, options.kv_bits);
    for (const GroupSize& group : groups) {
      bytes.archive_page += group.page_bytes;
      work.n_channels = std::max(work.n_channels, group.transform.n);
    }
    add_codec(plan, options, hparams, ops, groups);
    if (options.kv_select == KvSelect::index) {
      const IndexSize index = index_size(hparams, sidecar);
      bytes.index_page = index.page_bytes;
      plan.transform += index.matrix_bytes;
    }
    if (sidecar != nullptr && options.kv_select != KvSelect::all) plan.transform += sidecar->adapter_bytes();
  }
  plan.scratch += ops.work_bytes(work);
  const KvUsage usage = kv_usage(options, hparams, bytes, options.n_ctx);
  plan.kv_exact = usage.exact * options.n_sequences;
  plan.kv_archive = usage.archive * options.n_sequences;
  plan.kv_residents = usage.residents * options.n_sequences;
  plan.kv_kept = usage.kept * options.n_sequences;
  plan.kv_index = usage.index * options.n_sequences;
  plan.kv = usage.total() * options.n_sequences;
  plan.kv_bf16 = usage.bf16 * options.n_sequences;
  return plan;
}

MemoryPlan plan_memory(const EngineOptions& options) {
  const std::unique_ptr<ModelFile> file = open_model(options);
  const Family& family = family_of(*file);
  const Hparams hparams = read_hparams(*file, family);
  EngineOptions resolved = options;
  if (resolved.n_ctx == 0) resolved.n_ctx = hparams.n_ctx_train;
  const auto backend = make_backend(backend_options(options));
  // A named shape has no sidecar; what it would take with one can still be planned.
  std::optional<Sidecar> sidecar;
  if (options.shape.empty()) sidecar = find_sidecar(resolved, *file, family, hparams);
  resolve_kv_options(resolved, sidecar ? &*sidecar : nullptr);
  return plan_memory(resolved, *file, family, hparams, backend->ops(), sidecar ? &*sidecar : nullptr);
}

void check_fits(const MemoryPlan& plan, const DeviceMemory& memory,
                const std::function<MemoryPlan(std::int32_t)>& plan_at) {
  if (plan.total() <= memory.available) return;
  // The largest context that fits, in whole pages; none if even one page does not.
  std::int32_t fits = 0, fails = div_up(plan.n_ctx, page_tokens);
  while (fails - fits > 1) {
    const std::int32_t middle = fits + (fails - fits) / 2;
    (plan_at(middle * page_tokens).total() <= memory.available ? fits : fails) = middle;
  }
  throw Error(ErrorKind::memory, "memory plan",
              std::to_string(plan.total()) + " bytes are needed (weights " + std::to_string(plan.weights) +
                  ", KV cache " + std::to_string(plan.kv) + ", scratch " +
                  std::to_string(plan.transform + plan.scratch + plan.prefill) + "), there are " +
                  std::to_string(memory.available),
              fits > 0 ? "use a context of at most " + std::to_string(fits * page_tokens) +
                             " tokens (-c), fewer sequences or a smaller model"
                       : "use a smaller model or one of smaller weight types");
}

}  // namespace cga
