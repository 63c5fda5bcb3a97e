#include "memory/device/system_limits.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <string_view>
#include <vector>

#include "memory/device/device_cpu.h"

namespace engram::memory {
namespace {

constexpr int64_t kUnlimited = std::numeric_limits<int64_t>::max();

std::string read_file(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  if (file) text << file.rdbuf();
  return std::move(text).str();
}

// The first word as a number; none for "max" or a missing file.
std::optional<int64_t> parse_number(std::string_view text) {
  int64_t value = 0;
  const std::from_chars_result r = std::from_chars(text.data(), text.data() + text.size(), value);
  if (r.ec != std::errc()) return std::nullopt;
  return value;
}

// The number after "name" at the start of a line, as in /proc/meminfo and memory.stat.
std::optional<int64_t> parse_field(const std::string& text, const std::string& name) {
  std::istringstream lines(text);
  std::string line;
  while (std::getline(lines, line)) {
    if (!line.starts_with(name)) continue;
    const size_t digits = line.find_first_not_of(" \t:", name.size());
    if (digits == std::string::npos || digits == name.size()) continue;
    return parse_number(std::string_view(line).substr(digits));
  }
  return std::nullopt;
}

// Whether `name` is one of the comma-separated `names`.
bool lists(const std::string& names, const std::string& name) {
  std::istringstream items(names);
  std::string item;
  while (std::getline(items, item, ',')) {
    if (item == name) return true;
  }
  return false;
}

// Folders of the process's group and its ancestors for one controller of version 1, or for version
// 2 if `controller` is empty. Inside a container the path may not exist: the mount itself is last.
std::vector<std::string> group_folders(const std::string& root, const std::string& controller) {
  std::istringstream lines(read_file(root + "/proc/self/cgroup"));
  std::string mount = root + "/sys/fs/cgroup";
  if (!controller.empty()) mount.append("/").append(controller);
  std::vector<std::string> folders;
  std::string line;
  while (std::getline(lines, line)) {
    const size_t first = line.find(':');
    const size_t second = line.find(':', first == std::string::npos ? first : first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    const bool match = controller.empty() ? names.empty() : lists(names, controller);
    if (!match) continue;
    std::string path = line.substr(second + 1);
    while (path.size() > 1) {
      folders.push_back(mount + path);
      path.resize(path.rfind('/'));
    }
  }
  folders.push_back(mount);
  return folders;
}

int64_t memory_left(
    const std::string& folder,
    const char* limit_file,
    const char* usage_file,
    const char* inactive_field) {
  const std::optional<int64_t> limit = parse_number(read_file(folder + limit_file));
  const std::optional<int64_t> usage = parse_number(read_file(folder + usage_file));
  if (!limit || !usage) return kUnlimited;
  const int64_t cache = parse_field(read_file(folder + "/memory.stat"), inactive_field).value_or(0);
  return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cache));
}

int affinity_cores() {
  // The mask may need more bits than cpu_set_t has; grow until the kernel accepts it.
  for (int cpus = CPU_SETSIZE; cpus <= (1 << 20); cpus *= 2) {
    const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> mask(
        CPU_ALLOC(static_cast<size_t>(cpus)), [](cpu_set_t* m) { CPU_FREE(m); });
    const size_t bytes = CPU_ALLOC_SIZE(static_cast<size_t>(cpus));
    if (sched_getaffinity(0, bytes, mask.get()) == 0) return CPU_COUNT_S(bytes, mask.get());
  }
  return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
}

}  // namespace

int cpu_quota_cores(const std::string& root) {
  int64_t cores = 0;
  const auto limit = [&cores](std::optional<int64_t> quota, std::optional<int64_t> period) {
    if (!quota || !period || *quota <= 0 || *period <= 0) return;
    const int64_t whole = std::max<int64_t>(1, *quota / *period);
    cores = cores == 0 ? whole : std::min(cores, whole);
  };
  for (const std::string& folder : group_folders(root, "")) {
    const std::string text = read_file(folder + "/cpu.max");
    const size_t space = text.find(' ');
    if (space == std::string::npos) continue;
    limit(parse_number(text), parse_number(std::string_view(text).substr(space + 1)));
  }
  for (const std::string& folder : group_folders(root, "cpu")) {
    limit(
        parse_number(read_file(folder + "/cpu.cfs_quota_us")),
        parse_number(read_file(folder + "/cpu.cfs_period_us")));
  }
  return static_cast<int>(std::min<int64_t>(cores, std::numeric_limits<int>::max()));
}

int64_t available_bytes(const std::string& root) {
  int64_t least = kUnlimited;
  const std::optional<int64_t> kib =
      parse_field(read_file(root + "/proc/meminfo"), "MemAvailable:");
  if (kib) least = *kib * 1024;
  for (const std::string& folder : group_folders(root, "")) {
    least = std::min(least, memory_left(folder, "/memory.max", "/memory.current", "inactive_file"));
  }
  for (const std::string& folder : group_folders(root, "memory")) {
    least = std::min(
        least,
        memory_left(
            folder, "/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file"));
  }
  return least;
}

int usable_cores() {
  const int quota = cpu_quota_cores("");
  const int mask = std::max(1, affinity_cores());
  return quota == 0 ? mask : std::min(mask, quota);
}

}  // namespace engram::memory
