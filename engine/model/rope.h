// Reading rope_theta, rope_scaling and rope_parameters. Includes nlohmann-json: for .cc files only.
#pragma once

#include <string>

#include "engine/model/config.h"
#include "engine/model/json_fields.h"
#include "memory/base/status.h"

namespace engram::engine {

// Fills rope_theta and rope_scaling of the configuration from the fields of config.json; the
// newer rope_parameters, if there, is read instead of both. REQUIRES: max_position_embeddings read.
memory::Status read_rope(const nlohmann::json& root, const std::string& file, ModelConfig* config);

}  // namespace engram::engine
