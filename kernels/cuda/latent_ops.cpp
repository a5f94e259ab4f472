// The archive's share of the ops: what kernels/cuda/latent is given, put beside the step.
#include "kernels/cuda/cuda_ops.h"

namespace cga::cuda {

std::unique_ptr<PreparedLatent> CudaOps::prepare_latent(const LatentView& view) {
  // Nobody knows yet how many pages there will be to code; a slab of them takes no more than this.
  need(latent_scratch_, static_cast<std::size_t>(encode_scratch_bytes(view.n)), "scratch of coding");
  return cuda::prepare_latent(device_, steps_.stream(), view);
}

std::int64_t CudaOps::prepared_latent_bytes(const LatentView& view) const {
  return cuda::prepared_latent_bytes(view);
}

void CudaOps::encode_pages(const EncodeParams& params) {
  const LatentData& latent = cuda_latent(params.latent).data;
  const std::vector<CodedBlock> blocks = coded_blocks(*params.layout);
  std::int32_t n_wide = 0;
  for (const CodedBlock& block : blocks) n_wide += block.component < latent.w ? 1 : 0;
  std::vector<std::int32_t> units;
  for (const std::int32_t page : params.pages) {
    for (std::int32_t u = 0; u < page_units; ++u) units.push_back(page_units * page + u);
  }
  const ChannelRange all{0, latent.n};
  const std::vector<Piece> pieces = cut_channels({&all, 1}, 2 * panel_channels);
  need(latent_scratch_, static_cast<std::size_t>(encode_scratch_bytes(latent.n)), "scratch of coding");
  const EncodeArgs args{.latent = latent,
                        .blocks = steps_.put(std::span<const CodedBlock>(blocks)),
                        .n_blocks = static_cast<std::int32_t>(blocks.size()),
                        .n_wide = n_wide,
                        .x = params.x,
                        .coded = params.coded,
                        .unit_bytes = params.layout->unit_bytes(),
                        .units = steps_.put(std::span<const std::int32_t>(units)),
                        .n_units = static_cast<std::int32_t>(units.size()),
                        .pieces = steps_.put(std::span<const Piece>(pieces)),
                        .scratch = latent_scratch_->data()};
  steps_.launch([=](cudaStream_t stream) { cuda::encode_pages(args, stream); }, params.latent, args.blocks,
                args.n_blocks, args.n_wide, args.x, args.coded, args.unit_bytes, args.units, args.n_units,
                args.pieces, args.scratch);
}

void CudaOps::decode_units(const DecodeParams& params) {
  // Which units, and how many, is different in every step, to where they are scattered.
  steps_.begin_apart();
  const std::vector<CodedBlock> blocks = coded_blocks(*params.layout);
  std::int64_t row = 0;
  for (const ChannelRange& range : params.channels) row += range.count;
  const auto n_units = static_cast<std::int64_t>(params.units.size());
  const DecodeShape shape = choose_decode_shape(row, n_units);
  const std::vector<Piece> pieces = cut_channels(params.channels, shape.channels());
  const DecodeUnitsArgs args{.latent = cuda_latent(params.latent).data,
                             .blocks = steps_.put(std::span<const CodedBlock>(blocks)),
                             .n_blocks = static_cast<std::int32_t>(blocks.size()),
                             .coded = params.coded,
                             .unit_bytes = params.layout->unit_bytes(),
                             .units = steps_.put(params.units),
                             .n_units = static_cast<std::int32_t>(n_units),
                             .pieces = steps_.put(std::span<const Piece>(pieces)),
                             .n_pieces = static_cast<std::int32_t>(pieces.size()),
                             .shape = shape,
                             .out = params.out,
                             .row = row};
  steps_.launch([=](cudaStream_t stream) { cuda::decode_units(args, stream); }, params.latent, args.blocks,
                args.n_blocks, args.coded, args.unit_bytes, args.units, args.n_units, args.pieces,
                args.n_pieces, args.shape.panels, args.shape.units, args.out, args.row);
}

FrameArgs CudaOps::put(const PageFrame& frame, std::span<const std::int32_t> ids, const float* cos_sin) {
  std::vector<std::byte*> bases, scales;
  for (const LayerPages& layer : frame.layers) {
    bases.push_back(layer.base);
    scales.push_back(layer.scales);
  }
  return {.bases = steps_.put(std::span<std::byte* const>(bases)),
          .scales = steps_.put(std::span<std::byte* const>(scales)),
          .n_layers = static_cast<std::int32_t>(frame.layers.size()),
          .layout = frame.layers.empty() ? KvLayout{} : frame.layers[0].layout,
          .pairs = frame.pairs,
          .magnitude = frame.magnitude,
          .ids = steps_.put(ids),
          .n = static_cast<std::int32_t>(ids.size()),
          .cos_sin = cos_sin};
}

void CudaOps::identify(const FrameArgs& args) {
  steps_.identify(args.bases, args.scales, args.n_layers, args.layout.n_kv_heads, args.layout.head_dim,
                  args.layout.element, args.pairs, args.magnitude, args.ids, args.n, args.cos_sin);
}

void CudaOps::gather_pages(const GatherPagesParams& params) {
  const FrameArgs args = put(params.frame, params.pages, params.cos_sin);
  identify(args);
  float* const x = params.x;
  steps_.launch([=](cudaStream_t stream) { cuda::gather_pages(args, x, stream); }, x);
}

void CudaOps::scatter_units(const ScatterUnitsParams& params) {
  const FrameArgs args = put(params.frame, params.units, params.cos_sin);
  identify(args);
  const float* const x = params.x;
  steps_.launch([=](cudaStream_t stream) { cuda::scatter_units(args, x, stream); }, x);
  steps_.end_apart();
}

}  // namespace cga::cuda
