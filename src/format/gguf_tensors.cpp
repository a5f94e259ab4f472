// Checks of tensor descriptions, in the order of their fields; then of where their bytes lie.
#include "format/gguf_tensors.h"

#include <algorithm>
#include <limits>
#include <string>

#include "base/checked.h"
#include "format/ggml_types.h"

namespace cga {
namespace {

struct Description {
  FileTensor tensor;
  std::uint64_t offset = 0;  // from the start of the data section
  std::uint64_t n_bytes = 0;
};

std::string section(const FileTensor& tensor) {
  return "tensor " + printable(tensor.name);
}

/// @return the number of values
std::int64_t read_shape(ByteReader& reader, FileTensor& tensor) {
  const auto n_dims = reader.number<std::uint32_t>("number of dimensions");
  if (n_dims < 1 || n_dims > 4) reader.fail("number of dimensions", std::to_string(n_dims), "1 to 4");
  tensor.n_dims = static_cast<int>(n_dims);
  tensor.shape.fill(1);
  std::int64_t n_values = 1;
  for (std::uint32_t i = 0; i < n_dims; ++i) {
    const auto size = reader.number<std::uint64_t>("dimension");
    if (size < 1 || size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      reader.fail("dimension " + std::to_string(i), std::to_string(size), "1 to 2^63 - 1");
    }
    tensor.shape[i] = static_cast<std::int64_t>(size);
    const auto product = checked_mul(n_values, tensor.shape[i]);
    if (!product) reader.fail("dimensions", "a product above 2^63 - 1", "one that fits the file");
    n_values = *product;
  }
  return n_values;
}

const GgmlType& read_type(ByteReader& reader) {
  const auto id = reader.number<std::uint32_t>("type");
  const GgmlType* type = find_ggml_type(id);
  if (type == nullptr) {
    reader.fail("type", std::to_string(id), "a known type, 0 to " + std::to_string(ggml_types().size() - 1),
                "fetch the file again if it is damaged, or a version of it in an older type");
  }
  if (type->block_values == 0) {
    reader.fail("type", std::string(type->name) + ", which was removed from GGUF", "a current type",
                "convert the model again, to Q4_0 or Q4_K");
  }
  return *type;
}

Description read_description(ByteReader& reader, std::size_t i) {
  Description description;
  FileTensor& tensor = description.tensor;
  reader.enter("tensor " + std::to_string(i));
  const auto length = reader.number<std::uint64_t>("name length");
  if (length == 0) reader.fail("name", "an empty name", "a name");
  tensor.name = reader.text(length, "name");
  reader.enter(section(tensor));

  const std::int64_t n_values = read_shape(reader, tensor);
  const GgmlType& type = read_type(reader);
  tensor.type_id = type.id;
  tensor.type_name = type.name;
  if (tensor.shape[0] % type.block_values != 0) {
    reader.fail("dimension 0", std::to_string(tensor.shape[0]),
                "a multiple of " + std::to_string(type.block_values) + ", the block size of " +
                    std::string(type.name),
                "fetch the file again, or convert the model to another type");
  }
  const auto n_bytes = checked_mul(n_values / type.block_values, type.block_bytes);
  if (!n_bytes) reader.fail("dimensions", "more than 2^63 - 1 bytes", "a tensor that fits the file");
  description.n_bytes = static_cast<std::uint64_t>(*n_bytes);
  description.offset = reader.number<std::uint64_t>("offset");
  return description;
}

/// Points the tensor at its bytes.
/// @param data  the data section: from its start to the end of the file
void bind(ByteReader& reader, Description& description, std::span<const std::byte> data,
          std::uint64_t alignment) {
  reader.enter(section(description.tensor));
  if (description.offset % alignment != 0) {
    reader.fail("offset", std::to_string(description.offset),
                "a multiple of the alignment " + std::to_string(alignment));
  }
  const auto end = checked_add(description.offset, description.n_bytes);
  if (!end || *end > data.size()) {
    reader.fail(
        "data",
        std::to_string(description.n_bytes) + " bytes at offset " + std::to_string(description.offset),
        "an end within the " + std::to_string(data.size()) + " bytes of data the file has");
  }
  description.tensor.data = data.subspan(static_cast<std::size_t>(description.offset),
                                         static_cast<std::size_t>(description.n_bytes));
}

void check_apart(ByteReader& reader, std::span<const FileTensor> tensors) {
  std::vector<const FileTensor*> by_place;
  by_place.reserve(tensors.size());
  for (const FileTensor& tensor : tensors) by_place.push_back(&tensor);
  std::sort(by_place.begin(), by_place.end(),
            [](const FileTensor* a, const FileTensor* b) { return a->data.data() < b->data.data(); });
  for (std::size_t i = 1; i < by_place.size(); ++i) {
    const auto& before = *by_place[i - 1];
    if (by_place[i]->data.data() < before.data.data() + before.data.size()) {
      reader.enter(section(*by_place[i]));
      reader.fail("offset", "data that overlaps tensor " + printable(before.name), "bytes of its own");
    }
  }
}

}  // namespace

std::vector<FileTensor> read_gguf_tensors(ByteReader& reader, std::size_t n, std::uint64_t alignment) {
  std::vector<Description> descriptions;
  descriptions.reserve(n);
  for (std::size_t i = 0; i < n; ++i) descriptions.push_back(read_description(reader, i));
  if (n == 0) return {};

  const std::uint64_t padding = (alignment - reader.offset() % alignment) % alignment;
  reader.enter("");
  reader.take(padding, "padding before the tensors' data");
  const auto data = reader.bytes().subspan(reader.offset());
  std::vector<FileTensor> tensors;
  tensors.reserve(n);
  for (Description& description : descriptions) {
    bind(reader, description, data, alignment);
    tensors.push_back(std::move(description.tensor));
  }
  check_apart(reader, tensors);
  return tensors;
}

}  // namespace cga
