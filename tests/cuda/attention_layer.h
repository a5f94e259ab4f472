// The pages of one layer of a test's story on the device.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "cuda/attention_oracle.h"
#include "cuda/device_array.h"
#include "kernels/cuda/attention/attention.h"

namespace cga::test {

using cuda::SequenceMeta;

struct Span {
  int s, position, n_tokens;
};

inline constexpr int page_garbage = 0xff;  // NaN in f32, bf16 and f16

/// The pages of one layer, with shuffled ids and full of NaN, and all a launch needs.
class Layer {
 public:
  explicit Layer(const Story& story)
      : story_(story),
        pages_a_sequence_((story.length + page_tokens - 1) / page_tokens),
        memory_(pages_a_sequence_ * story.k.size() * story.heads.layout().page_bytes(), page_garbage),
        workspace_(cuda::attend_workspace_bytes(story.heads.n_heads(), story.heads.head_dim, 16, 200000)) {
    std::vector<std::int32_t> ids(pages_a_sequence_ * story.k.size());
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), std::mt19937(5));
    ids_ = ids;
  }

  /// Metadata of spans that read pages.
  std::vector<SequenceMeta> meta(const std::vector<Span>& spans) const {
    std::vector<SequenceMeta> metas;
    int row = 0;
    for (const Span& span : spans) {
      metas.push_back({row, span.n_tokens, span.position, span.s * pages_a_sequence_});
      row += span.n_tokens;
    }
    return metas;
  }

  std::vector<float> gather(const std::vector<std::vector<float>>& from, const std::vector<Span>& spans,
                            int n_heads) const {
    std::vector<float> rows;
    const std::ptrdiff_t row = n_heads * story_.heads.head_dim;
    for (const Span& span : spans) {
      const auto begin = from[span.s].begin() + span.position * row;
      rows.insert(rows.end(), begin, begin + span.n_tokens * row);
    }
    return rows;
  }

  void append(const std::vector<Span>& spans) {
    const Heads& h = story_.heads;
    const DeviceArray<float> k(gather(story_.k, spans, h.n_kv_heads)),
        v(gather(story_.v, spans, h.n_kv_heads));
    const DeviceArray<SequenceMeta> metas(meta(spans));
    const DeviceArray<std::int32_t> ids(ids_);
    cuda::AppendArgs args;
    args.k = k.data();
    args.v = v.data();
    args.n_heads = h.n_heads();
    args.base = memory_.data();
    args.layout = h.layout();
    args.sequences = metas.data();
    args.pages = ids.data();
    args.n_sequences = static_cast<int>(spans.size());
    args.n_rows = n_rows(spans);
    cuda::rope_append(args, nullptr);
    cuda::check(cudaDeviceSynchronize(), "append");
  }

  /// @param ids  a choice of units instead of pages; metas then say where each sequence's begin
  std::vector<float> attend(const std::vector<Span>& spans, bool decode, int max_tokens = 0,
                            const std::vector<std::int32_t>* units = nullptr,
                            const std::vector<SequenceMeta>* unit_metas = nullptr) {
    const DeviceArray<float> q(gather(story_.q, spans, story_.heads.n_heads()));
    const DeviceArray<float> out(q.size(), 0x7f);  // 3.4e38
    const DeviceArray<SequenceMeta> metas(unit_metas ? *unit_metas : meta(spans));
    const DeviceArray<std::int32_t> ids(units ? *units : ids_);
    cuda::AttendArgs args = attend_args(q.data(), out.data(), metas.data(), ids.data());
    args.units = units != nullptr;
    args.n_sequences = static_cast<int>(spans.size());
    args.n_rows = n_rows(spans);
    args.max_tokens = max_tokens;
    for (const Span& span : spans) args.max_tokens = std::max(args.max_tokens, span.position + span.n_tokens);
    (decode ? cuda::attend_decode : cuda::attend_prefill)(args, nullptr);
    cuda::check(cudaDeviceSynchronize(), "attend");
    return out.get();
  }

  cuda::AttendArgs attend_args(const float* q, float* out, const SequenceMeta* metas,
                               const std::int32_t* ids) const {
    cuda::AttendArgs args;
    args.q = q;
    args.out = out;
    args.n_heads = story_.heads.n_heads();
    args.scale = 1 / std::sqrt(static_cast<float>(story_.heads.head_dim));
    args.base = memory_.data();
    args.layout = story_.heads.layout();
    args.sequences = metas;
    args.pages = ids;
    args.workspace = workspace_.data();
    return args;
  }

  static int n_rows(const std::vector<Span>& spans) {
    int n = 0;
    for (const Span& span : spans) n += span.n_tokens;
    return n;
  }
  const std::vector<std::int32_t>& ids() const { return ids_; }
  int pages_a_sequence() const { return pages_a_sequence_; }
  std::vector<std::byte> bytes() const { return memory_.get(); }

 private:
  const Story& story_;
  int pages_a_sequence_;
  DeviceArray<std::byte> memory_, workspace_;
  std::vector<std::int32_t> ids_;
};

}  // namespace cga::test
