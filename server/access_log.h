// One line per call.
#pragma once

#include "server/call_record.h"

namespace engram::server {

// Never prompt or completion text. Times in milliseconds.
void log_access(const CallRecord& record);

}  // namespace engram::server
