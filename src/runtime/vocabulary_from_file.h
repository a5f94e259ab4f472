// From a model file's metadata to what the tokenizer is built from.
#pragma once

#include "format/model_file.h"
#include "tokenizer/vocabulary.h"

namespace cga {

/// Reads the keys tokenizer.ggml.*. The views in the result live as long as `file`.
/// @throws Error (bad_file) for a file without a vocabulary, or with values out of range
Vocabulary vocabulary_from_file(const ModelFile& file);

}  // namespace cga
