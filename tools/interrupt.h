// Ctrl-C for long jobs.
#pragma once

#include <atomic>

namespace engram::tools {

// Becomes true at the first SIGINT or SIGTERM; the second ends the program. Call once, before
// threads start.
const std::atomic<bool>* watch_interrupts();

}  // namespace engram::tools
