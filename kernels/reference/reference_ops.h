// The scalar backend's ops: plain loops, one thread, f64 sums. Slow and obviously right; every other
// backend is tested against it, and it can be chosen with --device scalar.
#pragma once

#include "kernels/ops.h"

namespace cga::reference {

class ReferenceOps final : public Ops {
 public:
  std::unique_ptr<PreparedWeight> prepare(const WeightView& weight) override;
  std::int64_t prepared_bytes(const WeightView& weight) const override;
  std::unique_ptr<PreparedWeight> prepare_table(const WeightView& table) override;
  void embed(float* out, const PreparedWeight& table, std::span<const std::int32_t> ids) override;
  void rms_norm(float* out, const float* x, const float* weight, float eps, std::int64_t n_tokens,
                std::int64_t dim) override;
  void matmul(std::span<const MatmulTarget> targets, const float* x, std::int64_t n_tokens) override;
  void rope_angles(float* cos_sin, std::span<const std::int32_t> positions,
                   std::span<const float> inverse_frequency, float magnitude) override;
  void rope(float* x, const float* cos_sin, RopePairs pairs, std::int64_t n_tokens, std::int32_t n_heads,
            std::int32_t head_dim) override;
  void append(const AppendParams& params) override;
  void attend(const AttendParams& params) override;
  std::unique_ptr<PreparedLatent> prepare_latent(const LatentView& view) override;
  std::int64_t prepared_latent_bytes(const LatentView& view) const override;
  void encode_pages(const EncodeParams& params) override;
  void decode_units(const DecodeParams& params) override;
  void gather_pages(const GatherPagesParams& params) override;
  void scatter_units(const ScatterUnitsParams& params) override;
  void copy_pages(const CopyPagesParams& params) override;
  void index_keys(const IndexKeysParams& params) override;
  void score_units(const ScoreUnitsParams& params) override;
  void top_units(const TopUnitsParams& params) override;
  void attention_mass(const AttentionMassParams& params) override;
  void swiglu(float* out, const float* gate, const float* up, std::int64_t n) override;
  void add(float* x, const float* y, std::int64_t n) override;
  void gather(float* out, const float* x, std::span<const std::int32_t> rows, std::int64_t dim) override;
  std::int32_t longest_shortlist(std::int64_t n_vocab) const override;
  void shortlist(const ShortlistParams& params) override;
};

}  // namespace cga::reference
