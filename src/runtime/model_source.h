// Where a model comes from: a file, or a named shape filled with random weights for measuring speed.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "cga/engine.h"
#include "format/model_file.h"
#include "model/family.h"
#include "model/hparams.h"

namespace cga {

/// The family a file names in general.architecture. @throws Error (bad_file) listing the known ones
const Family& family_of(const ModelFile& file);

/// A model of a published shape with random Q4_0 weights, the same tensors in every layer's place.
/// Its text is noise. @throws Error (usage) listing the known shapes
std::unique_ptr<ModelFile> random_model(std::string_view shape);

/// Opens what the options name. @throws Error
std::unique_ptr<ModelFile> open_model(const EngineOptions& options);

/// Facts about a model, from its tensors and numbers.
ModelInfo describe_model(const ModelFile& file, const Hparams& hparams);

}  // namespace cga
