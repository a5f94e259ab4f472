// The tensor descriptions of a GGUF file: read, checked, and bound to their bytes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "format/byte_reader.h"
#include "format/model_file.h"

namespace cga {

/// Reads `n` descriptions, which end the header; the tensors' bytes begin at the next multiple of
/// `alignment`.
/// @throws Error (bad_file) unless every tensor has a shape, a known type and aligned bytes of its own inside
/// the file. Names may still be double.
std::vector<FileTensor> read_gguf_tensors(ByteReader& reader, std::size_t n, std::uint64_t alignment);

/// The least a description takes, for bounding their number: a name of one byte, one dimension.
inline constexpr std::size_t min_tensor_bytes = 8 + 1 + 4 + 8 + 4 + 8;

}  // namespace cga
