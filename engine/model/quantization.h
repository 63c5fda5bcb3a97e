// Reading quantization_config: f8_e4m3 weights in the layout of DeepSeek-V3 and Qwen3-FP8. Includes
// nlohmann-json: for .cc files only.
#pragma once

#include <string>

#include "engine/model/config.h"
#include "engine/model/json_fields.h"

namespace engram::engine {

// Fills `stored` and `modules_to_not_convert` from the field of the config.json `root`, if it is
// there. INVALID_ARGUMENT and UNIMPLEMENTED name what of it is wrong or not served; a field that is
// not known is not served.
memory::Status read_quantization(
    const nlohmann::json& root, const std::string& file, WeightQuantization* quantization);

}  // namespace engram::engine
