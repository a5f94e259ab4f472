#include "kernels/cuda/cuda_ops.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.h"
#include "cga/error.h"
#include "kernels/cuda/elementwise/elementwise.h"
#include "kernels/cuda/runtime/check.h"
#include "kernels/cuda/shortlist/shortlist.h"

namespace cga::cuda {
namespace {

/// What takes shortlists of the rows of a decode step at once; of more sequences than that, in turns.
std::size_t shortlist_bytes(const WorkShape& shape) {
  constexpr std::int32_t most_rows = 64;
  return shortlist_workspace_bytes(std::min(shape.n_sequences, most_rows));
}

/// What attention takes while decoding, a row a sequence. Grids are made for a bound of n_ctx, and a choice
/// of units is filled up by less than two pages.
std::size_t attention_bytes(const WorkShape& shape) {
  const std::int32_t most_tokens = std::max(Steps::bound_of(shape.n_ctx), shape.n_ctx + 2 * page_tokens);
  return attend_workspace_bytes(shape.n_heads, shape.head_dim, shape.n_sequences, most_tokens);
}

std::size_t matmul_bytes(const WorkShape& shape) {
  std::size_t bytes = 0;
  for (const auto& [rows, cols] : shape.matrices) {
    bytes = std::max(bytes, matmul_workspace_bytes(shape.n_tokens, cols, rows));
  }
  return bytes;
}

}  // namespace

CudaOps::CudaOps(Device& device, Steps& steps, bool exact) : device_(device), steps_(steps), exact_(exact) {
  check(cublasLtCreate(&cublas_), "starting cuBLAS");
  plans_ = std::make_unique<GemmPlans>(cublas_);
}

CudaOps::~CudaOps() {
  cublasLtDestroy(cublas_);
}

std::unique_ptr<PreparedWeight> CudaOps::prepare(const WeightView& weight) {
  return exact_ ? prepare_table(weight) : prepare_weight(device_, steps_.stream(), weight);
}

std::int64_t CudaOps::prepared_bytes(const WeightView& weight) const {
  return exact_ ? prepared_table_bytes(weight) : prepared_weight_bytes(weight);
}

std::unique_ptr<PreparedWeight> CudaOps::prepare_table(const WeightView& table) {
  return cuda::prepare_table(device_, steps_.stream(), table);
}

std::int64_t CudaOps::prepared_table_bytes(const WeightView& table) const {
  return cuda::prepared_table_bytes(table);
}

std::int64_t CudaOps::work_bytes(const WorkShape& shape) const {
  const std::int64_t latent_bytes = shape.n_channels > 0 ? encode_scratch_bytes(shape.n_channels) : 0;
  return static_cast<std::int64_t>(matmul_bytes(shape) + attention_bytes(shape) + shortlist_bytes(shape)) +
         latent_bytes + Steps::bytes();
}

void CudaOps::reserve_work(const WorkShape& shape) {
  need(matmul_scratch_, matmul_bytes(shape), "scratch of products");
  need(attention_scratch_, attention_bytes(shape), "scratch of attention");
  need(shortlist_scratch_, shortlist_bytes(shape), "scratch of shortlists");
}

void CudaOps::need(std::unique_ptr<DeviceArray>& scratch, std::size_t bytes, const char* purpose) {
  if (scratch && scratch->bytes() >= bytes) return;
  if (scratch) steps_.forget();
  steps_.synchronize();
  scratch.reset();
  scratch = std::make_unique<DeviceArray>(device_, bytes, purpose);
  check(cudaMemset(scratch->data(), 0, bytes), "clearing scratch memory");
  check(cudaDeviceSynchronize(), "clearing scratch memory");
}

void CudaOps::embed(float* out, const PreparedWeight& table, std::span<const std::int32_t> ids) {
  const std::int32_t* const there = steps_.put(ids);
  const auto n = static_cast<std::int64_t>(ids.size());
  const PreparedWeight* const weight = &table;
  steps_.launch([=](cudaStream_t stream) { cuda::embed(out, *weight, there, n, stream); }, out, weight, there,
                n);
}

void CudaOps::rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
                       std::int64_t dim) {
  steps_.launch([=](cudaStream_t stream) { cuda::rms_norm(out, x, weight, eps, n_tokens, dim, stream); }, out,
                x, weight, eps, n_tokens, dim);
}

void CudaOps::multiply(const MatmulParams& params) {
  if (params.n_tokens == 0) return;
  std::size_t bytes = 0;
  for (const MatmulTarget& target : params.targets) {
    const PreparedWeight& weight = *target.weight;
    bytes = std::max(bytes, matmul_workspace_bytes(params.n_tokens, weight.cols, weight.rows));
  }
  need(matmul_scratch_, bytes, "scratch of products");
  const Workspace scratch{matmul_scratch_->data(), matmul_scratch_->bytes()};
  for (const MatmulTarget& target : params.targets) {
    steps_.identify(target.weight, target.bias, target.out);
  }
  // The caller's targets are gone when a part of a step starts.
  constexpr std::size_t most_targets = 4;
  if (params.targets.size() > most_targets) {
    throw Error(ErrorKind::device, "matmul", "more than four products in one call");
  }
  std::array<MatmulTarget, most_targets> targets;
  std::ranges::copy(params.targets, targets.begin());
  const auto start = [this, params, targets, scratch, decodes = steps_.is_decode()](cudaStream_t stream) {
    MatmulParams own = params;
    own.targets = std::span(targets).first(params.targets.size());
    Workspace workspace = scratch;
    if (exact_) return matmul_exact(own, stream, workspace);
    if (decodes) return matmul_decode(own, stream, workspace);
    matmul_prefill(own, stream, *plans_, workspace);
  };
  steps_.launch(start, params.x, params.n_tokens, params.norm, params.eps, params.epilogue, scratch.data);
}

void CudaOps::matmul(std::span<const MatmulTarget> targets, const float* x, std::int64_t n_tokens) {
  multiply({.x = x, .n_tokens = n_tokens, .targets = targets});
}

void CudaOps::norm_matmul(std::span<const MatmulTarget> targets, const NormedRows& rows,
                          std::int64_t n_tokens) {
  multiply({.x = rows.x, .n_tokens = n_tokens, .norm = rows.weight, .eps = rows.eps, .targets = targets});
}

void CudaOps::norm_swiglu(const MatmulTarget& gate, const MatmulTarget& up, const NormedRows& rows,
                          std::int64_t n_tokens) {
  const MatmulTarget targets[] = {gate, up};
  multiply({.x = rows.x,
            .n_tokens = n_tokens,
            .norm = rows.weight,
            .eps = rows.eps,
            .targets = targets,
            .epilogue = Epilogue::swiglu});
}

void CudaOps::matmul_add(float* x, const PreparedWeight& weight, const float* y, std::int64_t n_tokens,
                         float* /*room*/) {
  const MatmulTarget target{&weight, nullptr, x};
  multiply({.x = y, .n_tokens = n_tokens, .targets = {&target, 1}, .epilogue = Epilogue::add});
}

void CudaOps::rope_angles(float* cos_sin, std::span<const std::int32_t> positions,
                          std::span<const float> inverse_frequency, float magnitude) {
  const std::int32_t* const places = steps_.put(positions);
  const float* const frequencies = steps_.put(inverse_frequency);
  const auto n = static_cast<std::int64_t>(positions.size()),
             half = static_cast<std::int64_t>(inverse_frequency.size());
  const auto start = [=](cudaStream_t stream) {
    cuda::rope_angles(cos_sin, places, n, frequencies, half, magnitude, stream);
  };
  steps_.launch(start, cos_sin, places, n, frequencies, half, magnitude);
}

void CudaOps::rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens,
                   std::int32_t n_heads, std::int32_t head_dim) {
  const auto start = [=](cudaStream_t stream) {
    cuda::rope(x, cos_sin, pairs, n_tokens, n_heads, head_dim, stream);
  };
  steps_.launch(start, x, cos_sin, pairs, n_tokens, n_heads, head_dim);
}

bool CudaOps::reads_units(std::span<const SequenceRows> rows) const {
  // Where some may choose, all are read by the kernel for choices, so that a row's company changes no bit.
  if (steps_.is_decode() && steps_.host_decides()) return true;
  return std::any_of(rows.begin(), rows.end(), [](const auto& r) { return !r.units.empty(); });
}

void CudaOps::add_ids(const SequenceRows& sequence, bool units) {
  const std::int32_t n = div_up(sequence.position + sequence.n_tokens, units ? unit_tokens : page_tokens);
  const bool by_page = sequence.units.empty();
  if (units && by_page) {
    for (std::int32_t unit = 0; unit < n; ++unit) {
      pages_.push_back(page_units * sequence.pages[static_cast<std::size_t>(unit / page_units)] +
                       unit % page_units);
    }
  } else {
    const std::span<const std::int32_t> ids = units ? sequence.units : sequence.pages;
    pages_.insert(pages_.end(), ids.begin(), ids.begin() + n);
  }
}

std::int32_t CudaOps::list_bound(std::span<const SequenceRows> rows, bool units) const {
  if (!steps_.may_be_recorded()) return 0;
  if (!units) return steps_.position_bound();
  // Of choices, which end far below the sequences' positions.
  std::int32_t n_tokens = 0;
  for (const SequenceRows& sequence : rows) {
    n_tokens = std::max(n_tokens, sequence.position + sequence.n_tokens);
  }
  return Steps::bound_of(n_tokens);
}

CudaOps::Sequences CudaOps::put(std::span<const SequenceRows> rows, bool units, bool by_row) {
  const std::int32_t bound = list_bound(rows, units);
  const auto room = static_cast<std::size_t>(div_up(bound, units ? unit_tokens : page_tokens));
  Sequences put;
  put.max_tokens = bound;
  meta_.clear(), pages_.clear();
  std::size_t n_lists = 0;
  for (const SequenceRows& sequence : rows) {
    const auto first = static_cast<std::int32_t>(pages_.size());
    const std::int32_t n_each = by_row ? 1 : sequence.n_tokens;
    for (std::int32_t t = 0; t < sequence.n_tokens; t += n_each) {
      meta_.push_back({sequence.first_row + t, n_each, sequence.position + t, first});
    }
    add_ids(sequence, units);
    pages_.resize(std::max(pages_.size(), ++n_lists * room));
    put.n_rows = std::max(put.n_rows, sequence.first_row + sequence.n_tokens);
    put.max_tokens = std::max(put.max_tokens, sequence.position + sequence.n_tokens);
  }
  put.n_sequences = static_cast<std::int32_t>(meta_.size());
  put.sequences = steps_.put(std::span<const SequenceMeta>(meta_));
  put.ids = steps_.put(std::span<const std::int32_t>(pages_));
  return put;
}

void CudaOps::append(const AppendParams& params) {
  // Without angles nothing is rotated, so k is only read.
  rope_append({.q = nullptr, .k = const_cast<float*>(params.k), .n_tokens = 0, .append = params});
}

void CudaOps::rope_append(const RopeAppendParams& params) {
  const AppendParams& a = params.append;
  const Sequences rows = put_pages(a.sequences);
  const AppendArgs args{.q = params.q,
                        .k = params.k,
                        .v = a.v,
                        .cos_sin = params.cos_sin,
                        .pairs = params.pairs,
                        .n_heads = params.n_heads,
                        .base = a.pages.base,
                        .layout = a.pages.layout,
                        .sequences = rows.sequences,
                        .pages = rows.ids,
                        .n_sequences = rows.n_sequences,
                        .n_rows = rows.n_rows};
  steps_.identify(args.n_heads, args.layout.n_kv_heads, args.layout.head_dim, args.layout.element);
  steps_.launch([=](cudaStream_t stream) { cuda::rope_append(args, stream); }, args.q, args.k, args.v,
                args.cos_sin, args.pairs, args.base, args.sequences, args.pages, args.n_sequences,
                args.n_rows);
}

std::int32_t CudaOps::rows_at_once(std::int32_t n_rows,
                                   const std::function<std::size_t(std::int32_t)>& bytes) {
  need(attention_scratch_, bytes(1), "scratch of attention");
  while (bytes(n_rows) > attention_scratch_->bytes()) n_rows = (n_rows + 1) / 2;
  return n_rows;
}

void CudaOps::attend(const AttendParams& params) {
  const bool decodes = steps_.is_decode(), units = reads_units(params.sequences);
  const Sequences rows = put(params.sequences, units, decodes);
  const KvLayout& layout = params.pages.layout;
  // What is planned is room for a row of every sequence. Several of one, tokens that are known already, take
  // turns: what a row reads and how it is split is its own.
  const std::int32_t n_at_once =
      decodes
          ? rows_at_once(rows.n_sequences,
                         [&](std::int32_t n) {
                           return attend_workspace_bytes(params.n_heads, layout.head_dim, n, rows.max_tokens);
                         })
          : rows.n_sequences;
  for (std::int32_t first = 0; first < rows.n_sequences; first += n_at_once) {
    const AttendArgs args{.q = params.q,
                          .out = params.out,
                          .n_heads = params.n_heads,
                          .scale = params.scale,
                          .base = params.pages.base,
                          .layout = layout,
                          .sequences = rows.sequences + first,
                          .pages = rows.ids,
                          .units = units,
                          .n_sequences = std::min(n_at_once, rows.n_sequences - first),
                          .n_rows = rows.n_rows,
                          .max_tokens = rows.max_tokens,
                          .workspace = decodes ? attention_scratch_->data() : nullptr,
                          .residents = residents_of(params.residents)};
    steps_.identify(args.n_heads, args.scale, layout.n_kv_heads, layout.head_dim, layout.element,
                    args.residents.base, args.residents.scales);
    const auto start = [=](cudaStream_t stream) {
      decodes ? attend_decode(args, stream) : attend_prefill(args, stream);
    };
    steps_.launch(start, args.q, args.out, args.base, args.sequences, args.pages, args.units,
                  args.n_sequences, args.n_rows, args.max_tokens, args.workspace);
  }
}

void CudaOps::copy_pages(const CopyPagesParams& params) {
  const auto bytes = static_cast<std::size_t>(params.from.layout.page_bytes());
  for (std::size_t i = 0; i < params.from_ids.size(); ++i) {
    std::byte* const to = params.to.base + params.to_ids[i] * params.to.layout.page_bytes();
    const std::byte* const from = params.from.base + params.from_ids[i] * params.from.layout.page_bytes();
    const auto start = [=](cudaStream_t stream) {
      check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "copying pages");
    };
    steps_.launch(start, to, from, bytes);
  }
}

void CudaOps::swiglu(float* out, const float* gate, const float* up, std::int64_t n) {
  steps_.launch([=](cudaStream_t stream) { cuda::swiglu(out, gate, up, n, stream); }, out, gate, up, n);
}

void CudaOps::add(float* x, const float* y, std::int64_t n) {
  steps_.launch([=](cudaStream_t stream) { cuda::add(x, y, n, stream); }, x, y, n);
}

void CudaOps::gather(float* out, const float* x, std::span<const std::int32_t> rows, std::int64_t dim) {
  const std::int32_t* const there = steps_.put(rows);
  const auto n = static_cast<std::int64_t>(rows.size());
  steps_.launch([=](cudaStream_t stream) { cuda::gather(out, x, there, n, dim, stream); }, out, x, there, n,
                dim);
}

std::int32_t CudaOps::longest_shortlist(std::int64_t n_vocab) const {
  return cuda::longest_shortlist(n_vocab);
}

/// Kernels write to memory of the host: a copy after them would take longer than they do.
void CudaOps::shortlist(const ShortlistParams& params) {
  need(shortlist_scratch_, shortlist_workspace_bytes(1), "scratch of shortlists");
  const auto rows_at_once =
      static_cast<std::int64_t>(shortlist_scratch_->bytes() / shortlist_workspace_bytes(1));
  const auto n_rows = static_cast<std::size_t>(params.n_rows),
             n_candidates = n_rows * static_cast<std::size_t>(params.k);
  auto* const summaries = static_cast<LogitSummary*>(
      landing_.need(n_rows * sizeof(LogitSummary) + n_candidates * sizeof(Candidate)));
  auto* const likeliest = reinterpret_cast<Candidate*>(summaries + n_rows);
  for (std::int64_t first = 0; first < params.n_rows; first += rows_at_once) {
    const ShortlistArgs args{.logits = params.logits + first * params.n_vocab,
                             .n_rows = static_cast<int>(std::min(rows_at_once, params.n_rows - first)),
                             .n_vocab = static_cast<int>(params.n_vocab),
                             .k = params.k,
                             .likeliest = likeliest + first * params.k,
                             .summaries = summaries + first,
                             .workspace = shortlist_scratch_->data()};
    cuda::shortlist(args, steps_.stream());
  }
  steps_.synchronize();
  std::memcpy(params.summaries, summaries, n_rows * sizeof(LogitSummary));
  std::memcpy(params.likeliest, likeliest, n_candidates * sizeof(Candidate));
}

}  // namespace cga::cuda
