#include "runtime/model_source.h"

#include <map>
#include <string>

#include "cga/error.h"
#include "quant/weight_type.h"

namespace cga {

const Family& family_of(const ModelFile& file) {
  const std::string found = file.text("general.architecture").value_or("");
  std::string known;
  for (const Family* family : families()) {
    if (family->architecture == found) return *family;
    known.append(known.empty() ? "" : ", ").append(family->architecture);
  }
  throw Error(ErrorKind::bad_file, file.path().string(),
              "key 'general.architecture': found '" + found + "', expected one of " + known,
              "use a model of a supported family");
}

std::unique_ptr<ModelFile> open_model(const EngineOptions& options) {
  if (!options.shape.empty()) return random_model(options.shape);
  if (options.model.empty()) {
    throw Error(ErrorKind::usage, "--model", "no model was given", "name a GGUF file with -m");
  }
  return open_model_file(options.model);
}

ModelInfo describe_model(const ModelFile& file, const Hparams& hparams) {
  ModelInfo info;
  info.name = hparams.name;
  info.architecture = file.text("general.architecture").value_or("");
  std::map<std::string_view, std::int64_t> values_by_type;
  for (const FileTensor& tensor : file.tensors()) {
    std::int64_t n = 1;
    for (int d = 0; d < tensor.n_dims; ++d) n *= tensor.shape[static_cast<std::size_t>(d)];
    info.n_params += n;
    info.weight_bytes += static_cast<std::int64_t>(tensor.data.size());
    values_by_type[tensor.type_name] += n;
  }
  std::int64_t most = 0;
  for (const auto& [name, n] : values_by_type) {
    info.weight_types.append(info.weight_types.empty() ? "" : ", ").append(name);
    if (n > most) {
      most = n;
      info.file_type = name;
    }
  }
  info.n_layers = hparams.n_layers;
  info.dim = hparams.dim;
  info.n_heads = hparams.attention.n_heads;
  info.n_kv_heads = hparams.attention.n_kv_heads;
  info.head_dim = hparams.attention.head_dim;
  info.ffn_dim = hparams.ffn_dim;
  info.n_ctx_train = hparams.n_ctx_train;
  return info;
}

}  // namespace cga
