// A sidecar's description, for people and for programs.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "cga/inspect.h"

namespace cga::cli {

std::string sidecar_text(const SidecarDescription& sidecar, const std::string& path);
nlohmann::ordered_json sidecar_json(const SidecarDescription& sidecar, const std::string& path);

}  // namespace cga::cli
