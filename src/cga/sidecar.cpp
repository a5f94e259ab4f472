#include "cga/sidecar.h"

#include <cmath>
#include <utility>

#include "base/half.h"
#include "cga/error.h"
#include "format/refusal.h"
#include "tensor/latent_layout.h"

namespace cga {
namespace {

using Shape = std::vector<std::int64_t>;

std::string text_of(const Shape& shape) {
  std::string text;
  for (const std::int64_t size : shape) text += (text.empty() ? "[" : ", ") + std::to_string(size);
  return text.empty() ? "[]" : text + "]";
}

/// Takes one group's tensors out of the file and checks them.
class GroupReader {
 public:
  GroupReader(const SafetensorsFile& file, std::size_t group)
      : file_(file), prefix_("group." + std::to_string(group) + ".") {}

  const Safetensor& find(std::string_view name) const {
    const Safetensor* tensor = file_.find(prefix_ + std::string(name));
    if (tensor == nullptr) fail(name, "nothing", "a tensor");
    return *tensor;
  }

  /// Size of the first dimension of a tensor of the given number of dimensions, a multiple of 64.
  std::int64_t components(std::string_view name, std::size_t n_dims, std::int64_t most) const {
    const Shape& shape = find(name).shape;
    const bool fits = shape.size() == n_dims && shape[0] % block_components == 0 && shape[0] <= most;
    if (!fits) {
      fail(name, "shape " + text_of(shape),
           std::to_string(n_dims) + " dimensions, the first a multiple of 64 up to " + std::to_string(most));
    }
    return shape[0];
  }

  template <class T>
  const T* values(std::string_view name, std::string_view dtype, const Shape& shape) const {
    const Safetensor& tensor = find(name);
    if (tensor.dtype != dtype || tensor.shape != shape) {
      fail(name, std::string(tensor.dtype) + " " + text_of(tensor.shape),
           std::string(dtype) + " " + text_of(shape));
    }
    // They are read in place, as the rest of the program would read an array of them.
    if (reinterpret_cast<std::uintptr_t>(tensor.data.data()) % alignof(T) != 0) {
      fail(name, "data that is not aligned", "an offset that is a multiple of " + std::to_string(alignof(T)));
    }
    return reinterpret_cast<const T*>(tensor.data.data());
  }

  /// Floats of which each, and the one before it, satisfy `fits`.
  template <class Fits>
  const float* floats(std::string_view name, std::int64_t n, std::string_view expected,
                      const Fits& fits) const {
    const auto* data = values<float>(name, "F32", {n});
    for (std::int64_t i = 0; i < n; ++i) {
      if (std::isfinite(data[i]) && fits(data[i], i > 0 ? data[i - 1] : data[i], i)) continue;
      fail(name, std::to_string(data[i]) + " at " + std::to_string(i), expected);
    }
    return data;
  }

  const std::uint16_t* halves(std::string_view name, std::int64_t rows, std::int64_t cols) const {
    const auto* data = values<std::uint16_t>(name, "F16", {rows, cols});
    for (std::int64_t i = 0; i < rows * cols; ++i) {
      if ((data[i] & 0x7c00u) == 0x7c00u) {
        fail(name, std::to_string(f16_to_f32(data[i])) + " at " + std::to_string(i), "finite numbers");
      }
    }
    return data;
  }

 private:
  [[noreturn]] void fail(std::string_view name, const std::string& found, std::string_view expected) const {
    const std::string field = "tensor " + prefix_ + std::string(name);
    refuse(file_.path().string(), {field, found, expected, fetch_again});
  }

  const SafetensorsFile& file_;
  std::string prefix_;
};

/// Codes of the int8 basis are the one thing not looked at: any of them is a number, and they are most of the
/// file, which opening should not read.
LatentView read_transform(const GroupReader& reader, std::int64_t n) {
  const auto any = [](float, float, std::int64_t) { return true; };
  const auto positive = [](float value, float, std::int64_t) { return value > 0; };
  const auto falling = [](float value, float before, std::int64_t) { return value > 0 && value <= before; };
  const auto rising = [](float value, float before, std::int64_t i) { return i == 0 || value > before; };
  LatentView view;
  view.n = n;
  view.m = reader.components("variance", 1, n);
  view.w = reader.components("basis_wide", 2, view.m);
  view.mean = reader.floats("mean", n, "finite numbers", any);
  view.scale = reader.floats("scale", n, "numbers above 0", positive);
  view.variance = reader.floats("variance", view.m, "numbers above 0 that do not increase", falling);
  view.basis_wide = reader.halves("basis_wide", view.w, n);
  view.basis = reader.values<std::int8_t>("basis", "I8", {view.m - view.w, n});
  view.basis_scale = reader.halves("basis_scale", view.m - view.w, n / basis_scale_channels);
  view.codebook1 = reader.floats("codebook1", 2, "increasing levels", rising);
  view.codebook2 = reader.floats("codebook2", 4, "increasing levels", rising);
  view.codebook4 = reader.floats("codebook4", 16, "increasing levels", rising);
  return view;
}

std::int64_t n_channels(const SafetensorsFile& file, const BaseModel& base, std::int32_t n_layers) {
  const std::int64_t n = std::int64_t{2} * n_layers * base.n_kv_heads * base.head_dim;
  if (n % basis_scale_channels != 0) {
    refuse(file.path().string(),
           {"metadata group_layers", "a group of " + std::to_string(n) + " channels", "a multiple of 128"});
  }
  return n;
}

}  // namespace

Sidecar::Sidecar(const std::filesystem::path& path) : Sidecar(SafetensorsFile(MappedFile(path))) {}

Sidecar::Sidecar(SafetensorsFile file) : file_(std::move(file)), metadata_(read_sidecar_metadata(file_)) {
  std::int32_t first_layer = 0;
  for (const std::int32_t n_layers : metadata_.group_layers) {
    const GroupReader reader(file_, groups_.size());
    const std::int64_t n = n_channels(file_, metadata_.base, n_layers);
    groups_.push_back({first_layer, n_layers, read_transform(reader, n)});
    first_layer += n_layers;
  }
}

std::int64_t Sidecar::transform_bytes() const {
  std::int64_t bytes = 0;
  for (const LayerGroup& group : groups_) bytes += group.transform.bytes();
  return bytes;
}

std::string Sidecar::mismatch(const ModelFile& file, const BaseModel& model) const {
  const BaseModel& base = metadata_.base;
  const auto differ = [](std::string_view what, const std::string& made_for, const std::string& found) {
    return "made for " + std::string(what) + " " + made_for + ", the model has " + found;
  };
  if (base.architecture != model.architecture) {
    return differ("architecture", printable(base.architecture), model.architecture);
  }
  const std::pair<std::string_view, std::pair<std::int32_t, std::int32_t>> numbers[] = {
      {"n_layers", {base.n_layers, model.n_layers}},
      {"n_heads", {base.n_heads, model.n_heads}},
      {"n_kv_heads", {base.n_kv_heads, model.n_kv_heads}},
      {"head_dim", {base.head_dim, model.head_dim}},
      {"dim", {base.dim, model.dim}}};
  for (const auto& [what, pair] : numbers) {
    if (pair.first != pair.second)
      return differ(what, std::to_string(pair.first), std::to_string(pair.second));
  }
  const auto close = [](double a, double b) { return std::abs(a - b) <= 1e-5 * std::abs(b); };
  if (!close(base.rope_theta, model.rope_theta)) {
    return differ("rope_theta", std::to_string(base.rope_theta), std::to_string(model.rope_theta));
  }
  if (!close(base.rope_magnitude, model.rope_magnitude)) {
    return differ("rope_magnitude", std::to_string(base.rope_magnitude),
                  std::to_string(model.rope_magnitude));
  }
  const std::string found = fingerprint(file, model);
  return found == metadata_.fingerprint ? "" : differ("fingerprint", metadata_.fingerprint, found);
}

void Sidecar::require_match(const ModelFile& file, const BaseModel& model) const {
  const std::string difference = mismatch(file, model);
  if (difference.empty()) return;
  throw Error(ErrorKind::bad_file, path().string(),
              "does not belong to " + file.path().string() + ": " + difference,
              "make a sidecar for this checkpoint with tools/adapt");
}

}  // namespace cga
