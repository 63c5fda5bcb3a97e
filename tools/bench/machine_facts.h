// What a report says about the machine it was made on, as far as the kernel tells.
#pragma once

#include <string>
#include <vector>

#include "memory/table/table_report.h"
#include "tools/bench/overhead_report.h"

namespace engram::tools::bench {

// Processor, cores this process may use, memory, NUMA nodes. The kernel's files are read below
// `root`, which is empty but in tests.
MachineFacts read_machine_facts(const std::string& root);

// Adds what the tables' memory was obtained as: of several tables the least.
void describe_tables(const std::vector<memory::TableReport>& tables, MachineFacts* facts);

}  // namespace engram::tools::bench
