// What is asked of an engine, checked before anything is taken.
#pragma once

#include "engine/run/engine.h"
#include "memory/base/status.h"
#include "memory/base/tensor.h"

namespace engram::engine {

// Of the activations.
memory::DType act_dtype(const EngineOptions& options);

// INVALID_ARGUMENT names the flag, what there is and what was asked for.
memory::Status check_engine_options(const EngineOptions& options);

}  // namespace engram::engine
