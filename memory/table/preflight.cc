#include "memory/table/preflight.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <system_error>
#include <vector>

#include "memory/io/direct_file.h"
#include "memory/io/read_queue.h"
#include "memory/table/preflight_checks.h"

namespace engram::memory {

const char* severity_name(Severity severity) {
  switch (severity) {
    case Severity::kOk:
      return "ok";
    case Severity::kWarn:
      return "warn";
    case Severity::kFail:
      return "FAIL";
  }
  return "?";
}

PreflightProbes real_probes() {
  PreflightProbes probes;
  probes.io_uring = []() -> Status {
    return make_read_queue({.backend = IoBackend::kUring, .depth = 1}).status();
  };
  probes.free_bytes = [](const std::string& directory) -> Result<int64_t> {
    std::error_code error;
    const std::filesystem::space_info space = std::filesystem::space(directory, error);
    if (error) return not_found(directory + ": " + error.message());
    return static_cast<int64_t>(space.available);
  };
  probes.reads_directly = [](const std::string& path) -> Result<bool> {
    const Result<DirectFile> file = DirectFile::open(path);
    if (!file.ok()) return file.status();
    return file.value().direct() || file.value().in_memory();
  };
  return probes;
}

std::vector<Finding> preflight(const PreflightRequest& request) {
  const PoolUse pools = plan_pools(request);
  std::vector<Finding> findings = {
      check_memory(request, pools),
      check_huge_pages(request, pools),
      check_fragmentation(request, pools),
      check_memlock(request, pools),
      check_numa(request),
      check_io_uring(request)};
  if (request.arena.shareable) findings.push_back(check_shared_memory(request));
  if (!request.table_file.empty()) findings.push_back(check_direct_reads(request));
  if (!request.write_directory.empty()) findings.push_back(check_disk_space(request));
  return findings;
}

bool is_go(const std::vector<Finding>& findings, bool strict) {
  return std::all_of(findings.begin(), findings.end(), [strict](const Finding& finding) {
    return finding.severity == Severity::kOk || (!strict && finding.severity == Severity::kWarn);
  });
}

std::string preflight_text(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& f : findings) {
    std::string head = severity_name(f.severity);
    head.resize(6, ' ');
    head += f.what;
    head.resize(std::max<size_t>(head.size() + 1, 26), ' ');
    text += head + f.found + "\n";
    if (f.severity == Severity::kOk) continue;
    const std::string indent(26, ' ');
    if (!f.needed.empty()) text += indent + "needed: " + f.needed + "\n";
    if (!f.command.empty()) text += indent + "fix: " + f.command + "\n";
    if (!f.docker.empty()) text += indent + "Docker: " + f.docker + "\n";
    if (!f.kubernetes.empty()) text += indent + "Kubernetes: " + f.kubernetes + "\n";
  }
  return text;
}

std::string finding_line(const Finding& f) {
  std::string line = f.what + ": found " + f.found;
  if (!f.needed.empty()) line += ", needed " + f.needed;
  if (!f.command.empty()) line += "; fix: " + f.command;
  if (!f.docker.empty()) line += "; Docker: " + f.docker;
  if (!f.kubernetes.empty()) line += "; Kubernetes: " + f.kubernetes;
  return line;
}

}  // namespace engram::memory
