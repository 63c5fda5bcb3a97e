// The n-gram tables of an engine as messages of the Admin service. Pure.
#pragma once

#include <engram/v1/admin.pb.h>

#include "memory/table/table_report.h"

namespace engram::server {

void describe_table(const memory::TableReport& report, v1::Table* to);

}  // namespace engram::server
