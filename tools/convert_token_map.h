// engram convert --out: a copy of a checkpoint with the token map that it lacks.
#pragma once

#include <string>

namespace engram::tools {

// Copies the checkpoint `model` to the new directory `out`, with a map derived with ICU. Prints
// what was done or why not; an ExitCode.
int convert_token_map(const std::string& model, const std::string& out);

}  // namespace engram::tools
