// What the first call after a pause costs, as seen by three clients that take turns on the same
// servers: an echo over TCP (the machine), the least HTTP/2 client (machine and server), gRPC's C++
// client (all three).
#pragma once

#include <string>

namespace engram::bench {

// Prints a line per client, and the same for servers without the self-ping. About 65 seconds; a few
// at smoke size.
void measure_idle_latency(const std::string& engramd, bool smoke);

}  // namespace engram::bench
