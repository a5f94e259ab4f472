// The ops on a CUDA device. Each puts what it reads from host memory beside its step (runtime/steps.h), picks
// the kernels of the step's kind, and starts them; the arithmetic is in the folders of the ops.
#pragma once

#include "kernels/cuda/attention/attention.h"
#include "kernels/cuda/index/index.h"
#include "kernels/cuda/latent/latent.h"
#include "kernels/cuda/matmul/matmul.h"
#include "kernels/cuda/runtime/landing.h"
#include "kernels/cuda/runtime/steps.h"
#include "kernels/ops.h"

namespace cga::cuda {

class CudaOps final : public Ops {
 public:
  /// @param exact  products in f32
  CudaOps(Device& device, Steps& steps, bool exact);
  ~CudaOps() override;

  std::unique_ptr<PreparedWeight> prepare(const WeightView& weight) override;
  std::int64_t prepared_bytes(const WeightView& weight) const override;
  std::unique_ptr<PreparedWeight> prepare_table(const WeightView& table) override;
  std::int64_t prepared_table_bytes(const WeightView& table) const override;
  std::int64_t work_bytes(const WorkShape& shape) const override;
  void reserve_work(const WorkShape& shape) override;
  bool takes_untouched_memory() const override { return true; }

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
  void copy_pages(const CopyPagesParams& params) override;
  void swiglu(float* out, const float* gate, const float* up, std::int64_t n) override;
  void add(float* x, const float* y, std::int64_t n) override;
  void gather(float* out, const float* x, std::span<const std::int32_t> rows, std::int64_t dim) override;
  std::int32_t longest_shortlist(std::int64_t n_vocab) const override;
  void shortlist(const ShortlistParams& params) override;

  void norm_matmul(std::span<const MatmulTarget> targets, const NormedRows& rows,
                   std::int64_t n_tokens) override;
  void norm_swiglu(const MatmulTarget& gate, const MatmulTarget& up, const NormedRows& rows,
                   std::int64_t n_tokens) override;
  void matmul_add(float* x, const PreparedWeight& weight, const float* y, std::int64_t n_tokens,
                  float* room) override;
  void rope_append(const RopeAppendParams& params) override;

  void index_keys(const IndexKeysParams& params) override;
  void score_units(const ScoreUnitsParams& params) override;
  /// Waits for the device: the host decides by what it returns.
  void top_units(const TopUnitsParams& params) override;
  void attention_mass(const AttentionMassParams& params) override;

  std::unique_ptr<PreparedLatent> prepare_latent(const LatentView& view) override;
  std::int64_t prepared_latent_bytes(const LatentView& view) const override;
  void encode_pages(const EncodeParams& params) override;
  void decode_units(const DecodeParams& params) override;
  void gather_pages(const GatherPagesParams& params) override;
  void scatter_units(const ScatterUnitsParams& params) override;

 private:
  /// Rows of a batch as kernels read them, in device memory.
  struct Sequences {
    const SequenceMeta* sequences = nullptr;  // [n_sequences]
    const std::int32_t* ids = nullptr;        // of pages, or of units
    std::int32_t n_sequences = 0, n_rows = 0, max_tokens = 0;
  };
  /// Puts sequences with their pages.
  Sequences put_pages(std::span<const SequenceRows> rows) { return put(rows, false, false); }
  /// Puts sequences with what attention reads: units, or pages.
  /// @param by_row  every row as a sequence of its own, which shares its list with the others
  Sequences put(std::span<const SequenceRows> rows, bool units, bool by_row);
  void add_ids(const SequenceRows& sequence, bool units);
  /// For how many tokens a sequence's list has room, and attention's grid: lists of a step that may come
  /// again have room for what it will add, so that it is the same step. Of other steps 0.
  std::int32_t list_bound(std::span<const SequenceRows> rows, bool units) const;
  /// Rows that attention's scratch has room for, at most n_rows and at least one.
  /// @param bytes  that a number of rows takes
  std::int32_t rows_at_once(std::int32_t n_rows, const std::function<std::size_t(std::int32_t)>& bytes);
  /// Whether attention reads units: what reads pages then reads all of their units, which is the same.
  bool reads_units(std::span<const SequenceRows> rows) const;
  static Residents residents_of(const LayerPages& pages) { return {pages.base, pages.scales, pages.layout}; }

  struct Scored {
    const ScoredMeta* rows = nullptr;
    const std::int32_t* pages = nullptr;
    std::int32_t n_rows = 0, most_units = 0;
  };
  Scored put_scored(std::span<const ScoredRow> rows);

  void multiply(const MatmulParams& params);
  /// @param ids  of pages, or of units
  FrameArgs put(const PageFrame& frame, std::span<const std::int32_t> ids, const float* cos_sin);
  void identify(const FrameArgs& args);
  /// Makes sure of scratch memory; it grows only if what reserve_work saw was smaller. What was recorded with
  /// the smaller one is forgotten.
  void need(std::unique_ptr<DeviceArray>& scratch, std::size_t bytes, const char* purpose);

  Device& device_;
  Steps& steps_;
  bool exact_;
  cublasLtHandle_t cublas_ = nullptr;
  std::unique_ptr<GemmPlans> plans_;
  std::unique_ptr<DeviceArray> matmul_scratch_, attention_scratch_, shortlist_scratch_, latent_scratch_,
      mass_scratch_;
  std::unique_ptr<DeviceArray> choice_;  // of top_units, on its way to the host
  Landing landing_;                      // of shortlists
  Landing choice_landing_;
  // Host arrays that are used again.
  std::vector<SequenceMeta> meta_;
  std::vector<ScoredMeta> scored_;
  std::vector<std::int32_t> pages_, before_;
  std::vector<Before> before_of_;
};

}  // namespace cga::cuda
