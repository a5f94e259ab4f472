// A file's own words, copied out of its mapping.
#include "cga/inspect.h"

#include <system_error>

#include "format/model_file.h"

namespace cga {

ModelDescription describe_model_file(const std::filesystem::path& path) {
  const std::unique_ptr<ModelFile> file = open_model_file(path);
  ModelDescription result;
  result.metadata = file->describe();
  std::error_code gone;
  const auto size = std::filesystem::file_size(path, gone);
  if (!gone) result.file_bytes = static_cast<std::int64_t>(size);
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

}  // namespace cga
