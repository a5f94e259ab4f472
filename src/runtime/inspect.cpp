// A file's own words, copied out of its mapping.
#include "cga/inspect.h"

#include <algorithm>
#include <system_error>

#include "cga/codec_plan.h"
#include "cga/sidecar.h"
#include "format/model_file.h"
#include "format/refusal.h"
#include "tensor/index_layout.h"

namespace cga {
namespace {

std::int64_t bytes_of(const std::filesystem::path& path) {
  std::error_code gone;
  const auto size = std::filesystem::file_size(path, gone);
  return gone ? 0 : static_cast<std::int64_t>(size);
}

SidecarDescription::Rate describe_rate(const Sidecar& sidecar, double bits) {
  SidecarDescription::Rate rate{.bits = bits};
  for (const LayerGroup& group : sidecar.groups()) {
    const LatentLayout layout = plan_layout(group.transform, bits);
    for (const LatentLayout::Block& block : layout.blocks()) {
      std::int64_t& count = block.bits == 8   ? rate.eight
                            : block.bits == 4 ? rate.four
                            : block.bits == 2 ? rate.two
                                              : rate.one;
      count += block_components;
    }
    rate.token_bytes += layout.unit_bytes() / unit_tokens;
    rate.token_bf16_bytes += 2 * group.transform.n;
  }
  return rate;
}

SidecarDescription::Index describe_index(const Sidecar& sidecar) {
  const SidecarMetadata::Index& index = sidecar.metadata().index;
  SidecarDescription::Index result;
  result.heads = index.heads;
  result.width = index.width;
  result.bytes = sidecar.index_bytes();
  for (const SelectGroup& group : sidecar.select_groups()) {
    result.anchors.push_back({group.layers.first, group.layers.size(), group.n_key_layers});
    result.token_bytes += IndexLayout{index.width}.unit_bytes() / unit_tokens;
    result.by_need = group.need != nullptr;
  }
  for (const SidecarMetadata::IndexQuality& row : index.quality) {
    result.quality.push_back({printable(row.text), printable(row.select), row.tokens, row.budget, row.kv_bits,
                              row.recall, row.kl, row.ppl_change, row.top1});
  }
  return result;
}

}  // namespace

ModelDescription describe_model_file(const std::filesystem::path& path) {
  const std::unique_ptr<ModelFile> file = open_model_file(path);
  ModelDescription result;
  result.metadata = file->describe();
  result.file_bytes = bytes_of(path);
  for (const FileTensor& tensor : file->tensors()) {
    TensorDescription description{tensor.name, std::string(tensor.type_name), {}, 1, 0};
    for (int d = 0; d < tensor.n_dims; ++d) {
      description.shape.push_back(tensor.shape[static_cast<std::size_t>(d)]);
      description.n_values *= description.shape.back();
    }
    description.bytes = static_cast<std::int64_t>(tensor.data.size());
    result.tensors.push_back(std::move(description));
  }
  return result;
}

SidecarDescription describe_sidecar(const std::filesystem::path& path, const std::vector<double>& rates) {
  const Sidecar sidecar(path);
  const SidecarMetadata& metadata = sidecar.metadata();
  SidecarDescription result;
  result.tool = printable(metadata.tool);
  result.fingerprint = metadata.fingerprint;
  result.file_bytes = bytes_of(path);
  result.transform_bytes = sidecar.transform_bytes();
  for (const LayerAdapter& adapter : sidecar.adapters()) {
    result.adapter_rank = std::max(result.adapter_rank, adapter.rank);
  }
  result.adapter_bytes = sidecar.adapter_bytes();
  result.kv_bits = metadata.defaults.kv_bits;
  result.kv_window = metadata.defaults.kv_window;
  result.kv_sparse_from = metadata.defaults.kv_sparse_from;
  result.kv_budget = metadata.defaults.kv_budget;
  result.index = describe_index(sidecar);
  for (std::size_t g = 0; g < sidecar.groups().size(); ++g) {
    const LayerGroup& group = sidecar.groups()[g];
    result.groups.push_back({group.first_layer, group.n_layers, group.transform.n, group.transform.m,
                             group.transform.w, metadata.spectra[g]});
  }
  for (const double bits : rates) result.rates.push_back(describe_rate(sidecar, bits));
  for (const auto& [text, tokens] : metadata.calibration)
    result.calibration.emplace_back(printable(text), tokens);
  for (const SidecarMetadata::Quality& row : metadata.quality) {
    result.quality.push_back(
        {printable(row.text), row.tokens, row.kv_bits, row.kl, row.ppl_change, row.top1});
  }
  return result;
}

std::filesystem::path sidecar_beside(const std::filesystem::path& model) {
  return std::filesystem::path(model).replace_extension(".cga");
}

}  // namespace cga
