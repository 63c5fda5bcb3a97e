// engram preflight: whether this machine can serve a model's tables, before it tries.
#include "memory/table/preflight.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>
#include <vector>

#include "memory/base/byte_text.h"
#include "memory/io/safetensors.h"
#include "memory/table/placement.h"
#include "memory/table/preflight_set.h"
#include "memory/table/table_file.h"
#include "tools/command.h"

namespace engram::tools {
namespace {

constexpr int64_t kLoaderBytes = int64_t{256} << 20;  // the loader's buffers and the process itself

struct PreflightArguments {
  std::string model;
  std::string tables;
  std::string placement = "host";
  std::string numa_policy = "auto";
  std::string lock = "try";
  std::string cache;
  std::string write_directory;
  bool require_huge_pages = false;
  bool shareable = false;
  bool strict = false;
  bool json = false;
};

int complain(const memory::Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.to_string().c_str());
  return kFailed;
}

// The table files below a directory, or the file itself.
memory::Status add_table_files(const std::string& path, memory::PreflightRequest* request) {
  std::vector<std::string> files;
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) files.push_back(path);
  for (std::filesystem::directory_iterator i(path, error), end; !error && i != end;
       i.increment(error)) {
    if (i->path().extension() == ".engram-table") files.push_back(i->path().string());
  }
  std::sort(files.begin(), files.end());
  if (files.empty()) return memory::not_found(path + ": no file NAME.engram-table in it");
  for (const std::string& file : files) {
    const auto table = memory::TableFile::open(file);
    if (!table.ok()) return table.status();
    request->table_bytes.push_back(table.value()->header().data_bytes);
    request->table_file = file;
  }
  return {};
}

// Tables and weights of a checkpoint by their tensors' names and sizes. Weights of 16 bits are
// repacked as they are; a copy of the largest tensor is what loading holds beside them.
memory::Status add_checkpoint(
    const std::string& directory, bool with_tables, memory::PreflightRequest* request) {
  const memory::Result<memory::TensorFiles> files = memory::TensorFiles::open(directory);
  if (!files.ok()) return files.status();
  int64_t largest = 0;
  for (const memory::TensorInfo& tensor : files.value().tensors()) {
    const bool values = tensor.name.ends_with(".engram.embedding.weight");
    const bool scales = tensor.name.ends_with(".engram.embedding.scale");
    if (!values && !scales) {
      request->other_bytes += tensor.bytes;
      largest = std::max(largest, tensor.bytes);
    } else if (with_tables) {
      request->table_bytes.push_back(tensor.bytes);
      if (request->table_file.empty()) request->table_file = files.value().path(tensor);
    }
  }
  request->other_bytes += largest;
  return {};
}

memory::Status make_request(const PreflightArguments& a, memory::PreflightRequest* request) {
  request->other_bytes = kLoaderBytes;
  if (!a.tables.empty()) ENGRAM_RETURN_IF_ERROR(add_table_files(a.tables, request));
  if (!a.model.empty()) {
    ENGRAM_RETURN_IF_ERROR(add_checkpoint(a.model, a.tables.empty(), request));
  }
  for (const int64_t bytes : request->table_bytes) request->write_bytes += bytes;
  request->write_directory = a.write_directory;
  const memory::Result<memory::Placement> placement = memory::parse_placement(a.placement);
  if (!placement.ok()) return placement.status();
  memory::limit_to_placement(placement.value(), request);
  if (!a.cache.empty()) {
    const memory::Result<int64_t> bytes = memory::parse_bytes(a.cache);
    if (!bytes.ok()) return bytes.status();
    request->other_bytes += bytes.value();
  }
  const memory::Result<memory::NumaPolicy> numa = memory::parse_numa_policy(a.numa_policy);
  if (!numa.ok()) return numa.status();
  request->arena.numa = numa.value();
  request->arena.shareable = a.shareable;
  if (a.require_huge_pages) request->arena.huge = memory::HugePages::kRequire;
  request->arena.pin = a.lock == "require" ? memory::PinPages::kRequire
                       : a.lock == "try"   ? memory::PinPages::kTry
                                           : memory::PinPages::kNo;
  return {};
}

void print_json(const std::vector<memory::Finding>& findings, bool go) {
  nlohmann::ordered_json object = {{"go", go}, {"findings", nlohmann::ordered_json::array()}};
  for (const memory::Finding& f : findings) {
    std::string severity = memory::severity_name(f.severity);
    if (f.severity == memory::Severity::kFail) severity = "fail";
    object["findings"].push_back(
        {{"what", f.what},
         {"severity", severity},
         {"found", f.found},
         {"needed", f.needed},
         {"command", f.command},
         {"docker", f.docker},
         {"kubernetes", f.kubernetes}});
  }
  std::printf("%s\n", object.dump(2, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

int check(const PreflightArguments& a) {
  memory::PreflightRequest request;
  if (const memory::Status status = make_request(a, &request); !status.ok()) {
    return complain(status);
  }
  const std::vector<memory::Finding> findings = memory::preflight(request);
  const bool go = memory::is_go(findings, a.strict);
  if (a.json) {
    print_json(findings, go);
  } else {
    std::printf("%s%s\n", memory::preflight_text(findings).c_str(), go ? "go" : "NO GO");
  }
  return go ? kDone : kFailed;
}

}  // namespace

void add_preflight_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command = app.add_subcommand(
      "preflight", "Whether this machine can serve a model's tables, and what to change if not");
  auto a = std::make_shared<PreflightArguments>();
  command->add_option("--model", a->model, "Directory of the checkpoint");
  command->add_option("--tables", a->tables, "Table file, or directory of NAME.engram-table");
  command->add_option(
      "--placement", a->placement, "Where rows will live: host, host:8GiB,nvme, auto");
  command->add_option("--kv-cache-memory", a->cache, "Size of the key-value cache: 4GiB");
  command->add_option(
      "--numa-policy", a->numa_policy, "auto, none, bind:N, interleave or replicate");
  command->add_option("--lock", a->lock, "Pinning of tables: no, try or require")
      ->check(CLI::IsMember({"no", "try", "require"}));
  command->add_option(
      "--write-to", a->write_directory, "Directory that a conversion of these tables will fill");
  command->add_flag("--require-huge-pages", a->require_huge_pages, "Small pages are a failure");
  command->add_flag("--shared", a->shareable, "Tables will be served by `engram table serve`");
  command->add_flag("--strict", a->strict, "Warnings are failures");
  command->add_flag("--json", a->json, "One JSON object");
  command->footer("Exit codes: 0 go, 1 no go, 2 wrong usage.");
  command->callback([a, invocation] {
    invocation->run = [a] {
      if (a->model.empty() && a->tables.empty()) return report_usage("give --model or --tables");
      return check(*a);
    };
  });
}

}  // namespace engram::tools
