// Jobs that convert the tables of a checkpoint: rows are copied as they are stored, or encoded anew
// with a report of how far they are from the source.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/convert_table.h"

namespace engram::tools {

// One job per table, of these layers only unless `layers` is empty.
//   codec  of the table files; none: that of the source
//   group  values per scale, for the integer codecs
// Errors of engine::open_published_tables(); INVALID_ARGUMENT for layers and widths that do not
// fit.
memory::Result<std::vector<TableJob>> checkpoint_jobs(
    const std::string& directory,
    const std::vector<int>& layers,
    std::optional<memory::RowCodec> codec,
    int group);

}  // namespace engram::tools
