#include "kernels/cpu/cpu_ops.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/elementwise/elementwise.h"
#include "kernels/cpu/shortlist/shortlist.h"
#include "kernels/table_in_file.h"

namespace cga::cpu {

std::unique_ptr<PreparedWeight> CpuOps::prepare(const WeightView& weight) {
  return prepare_weight(weight, pool_);
}

std::int64_t CpuOps::prepared_bytes(const WeightView& weight) const {
  return cpu::prepared_bytes(weight);
}

std::unique_ptr<PreparedWeight> CpuOps::prepare_table(const WeightView& table) {
  return std::make_unique<TableInFile>(table);
}

void CpuOps::embed(float* out, const PreparedWeight& table, std::span<const std::int32_t> ids) {
  cpu::embed(out, TableInFile::view_of(table), ids, pool_);
}

void CpuOps::rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
                      std::int64_t dim) {
  cpu::rms_norm(out, x, weight, eps, n_tokens, dim, pool_);
}

void CpuOps::matmul(std::span<const MatmulTarget> targets, const float* x, std::int64_t n_tokens) {
  cpu::matmul(targets, x, n_tokens, pool_, matmul_scratch_);
}

void CpuOps::rope_angles(float* cos_sin, std::span<const std::int32_t> positions,
                         std::span<const float> inverse_frequency, float magnitude) {
  cpu::rope_angles(cos_sin, positions, inverse_frequency, magnitude, pool_);
}

void CpuOps::rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens,
                  std::int32_t n_heads, std::int32_t head_dim) {
  cpu::rope(x, cos_sin, pairs, n_tokens, n_heads, head_dim, pool_);
}

void CpuOps::append(const AppendParams& params) {
  cpu::append(params, pool_);
}

void CpuOps::attend(const AttendParams& params) {
  cpu::attend(params, pool_, attention_scratch_);
}

std::unique_ptr<PreparedLatent> CpuOps::prepare_latent(const LatentView& view) {
  return cpu::prepare_latent(view, pool_);
}

std::int64_t CpuOps::prepared_latent_bytes(const LatentView& view) const {
  return cpu::prepared_latent_bytes(view);
}

void CpuOps::encode_pages(const EncodeParams& params) {
  cpu::encode_pages(params, pool_, latent_scratch_);
}

void CpuOps::decode_units(const DecodeParams& params) {
  cpu::decode_units(params, pool_, latent_scratch_);
}

void CpuOps::gather_pages(const GatherPagesParams& params) {
  cpu::gather_pages(params, pool_);
}

void CpuOps::scatter_units(const ScatterUnitsParams& params) {
  cpu::scatter_units(params, pool_);
}

void CpuOps::copy_pages(const CopyPagesParams& params) {
  const std::int64_t bytes = params.from.layout.page_bytes();
  pool_.parallel_for(static_cast<std::int64_t>(params.from_ids.size()), [&](std::int64_t task, int) {
    const auto i = static_cast<std::size_t>(task);
    std::memcpy(params.to.base + params.to_ids[i] * bytes, params.from.base + params.from_ids[i] * bytes,
                static_cast<std::size_t>(bytes));
  });
}

void CpuOps::index_keys(const IndexKeysParams& params) {
  cpu::index_keys(params, pool_);
}

void CpuOps::score_units(const ScoreUnitsParams& params) {
  cpu::score_units(params, pool_, index_scratch_);
}

void CpuOps::top_units(const TopUnitsParams& params) {
  cpu::top_units(params, pool_, index_scratch_);
}

void CpuOps::attention_mass(const AttentionMassParams& params) {
  cpu::attention_mass(params, pool_, index_scratch_);
}

void CpuOps::swiglu(float* out, const float* gate, const float* up, std::int64_t n) {
  cpu::swiglu(out, gate, up, n, pool_);
}

void CpuOps::add(float* x, const float* y, std::int64_t n) {
  cpu::add(x, y, n, pool_);
}

void CpuOps::gather(float* out, const float* x, std::span<const std::int32_t> rows, std::int64_t dim) {
  for (const std::int32_t row : rows) {
    std::copy_n(x + row * dim, dim, out);
    out += dim;
  }
}

void CpuOps::shortlist(const ShortlistParams& params) {
  cpu::shortlist(params, pool_);
}

}  // namespace cga::cpu
