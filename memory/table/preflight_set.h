// The preflight's questions for a set of tables, from the same options that TableSet::open() gets.
#pragma once

#include "memory/table/placement.h"
#include "memory/table/preflight.h"
#include "memory/table/table_set.h"

namespace engram::memory {

// Reads headers of table files; one that cannot be opened is left out, TableSet::open() says why.
// Tables of a daemon take none of this process's memory.
PreflightRequest preflight_request(const TableRequest& request);

// Leaves in request->table_bytes what lies in host memory with that placement, tables in their
// order.
void limit_to_placement(const Placement& placement, PreflightRequest* request);

}  // namespace engram::memory
