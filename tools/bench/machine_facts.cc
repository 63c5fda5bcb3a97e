#include "tools/bench/machine_facts.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <set>
#include <utility>

#include "memory/device/device_cpu.h"
#include "memory/device/numa.h"

namespace engram::tools::bench {
namespace {

// The value behind the first "KEY ...: VALUE" line; empty: there is none.
std::string first_value(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    const size_t colon = line.find(':');
    if (!line.starts_with(key) || colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Of the first GPU on the bus. "32.0 GT/s PCIe" is generation 5.
void read_link(const std::string& root, MachineFacts* facts) {
  constexpr std::pair<const char*, int> kSpeeds[] = {{"2.5", 1},  {"5.0", 2},  {"8.0", 3},
                                                     {"16.0", 4}, {"32.0", 5}, {"64.0", 6}};
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(root + "/sys/bus/pci/devices", error)) {
    if (first_line(entry.path() / "vendor") != "0x10de") continue;
    if (!first_line(entry.path() / "class").starts_with("0x03")) continue;
    const std::string speed = first_line(entry.path() / "current_link_speed");
    const std::string width = first_line(entry.path() / "current_link_width");
    for (const auto& [text, generation] : kSpeeds) {
      if (speed.starts_with(text)) facts->link_generation = generation;
    }
    std::from_chars(width.data(), width.data() + width.size(), facts->link_width);
    return;
  }
}

}  // namespace

MachineFacts read_machine_facts(const std::string& root) {
  MachineFacts facts;
  facts.cpu = first_value(root + "/proc/cpuinfo", "model name");
  facts.cores = memory::usable_cores();
  const std::string total = first_value(root + "/proc/meminfo", "MemTotal");
  int64_t kib = 0;
  std::from_chars(total.data(), total.data() + total.size(), kib);
  facts.memory_bytes = kib * 1024;
  facts.numa_nodes = static_cast<int>(memory::read_numa_topology(root).nodes.size());
  read_link(root, &facts);
  return facts;
}

void describe_tables(const std::vector<memory::TableReport>& tables, MachineFacts* facts) {
  std::set<int> nodes;
  double huge = 1;
  for (const memory::TableReport& table : tables) {
    nodes.insert(table.numa_nodes.begin(), table.numa_nodes.end());
    huge = std::min(huge, table.huge_share);
  }
  facts->table_nodes.assign(nodes.begin(), nodes.end());
  if (tables.empty()) return;
  // "n-gram table of layer 1: 1.00 GiB of transparent huge pages, ..."
  const std::string& memory = tables.front().memory;
  const size_t end = memory.find(',');
  const size_t begin = memory.rfind(" of ", end);
  if (end != std::string::npos && begin != std::string::npos) {
    facts->page_mode = memory.substr(begin + 4, end - begin - 4) + ", ";
  }
  char text[64];
  std::snprintf(text, sizeof text, "%.0f %% huge", 100 * huge);
  facts->page_mode += text;
}

}  // namespace engram::tools::bench
