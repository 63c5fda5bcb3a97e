// Geometries of made-up tables for `engram convert --synthesize`: those of the published models, at
// their own or any other size, or one of the caller's.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/table/geometry.h"

namespace engram::tools {

// What is not given is the published model's own.
struct SynthesizeRequest {
  std::string kind;         // "paper", "deepseek-v4.1-flash", ..., "custom"
  std::vector<int> layers;  // all of them, or those of the model to write
  int64_t rows = 0;         // of each table, about
  int64_t params = 0;       // of all tables, about; instead of rows
  std::optional<memory::RowCodec> codec;
  int group = 32;      // of the integer codecs
  int max_ngram = 3;   // custom
  int heads = 8;       // custom, per order
  int64_t width = 64;  // custom, elements of a row
};

// "paper, deepseek-v4.1-flash, ...": what `kind` may be.
std::string synthesize_kinds();

// One geometry per layer. INVALID_ARGUMENT names what cannot be.
memory::Result<std::vector<memory::TableGeometry>> synthesize_geometries(
    const SynthesizeRequest& request);

}  // namespace engram::tools
