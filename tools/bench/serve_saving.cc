#include "tools/bench/serve_saving.h"

#include <cstdio>
#include <filesystem>

#include "tools/bench/save_result.h"

namespace engram::tools::bench {
namespace {

std::string path_of(const ServeFlags& flags, const std::string& name) {
  return (std::filesystem::path(flags.result_dir.empty() ? "." : flags.result_dir) / name).string();
}

}  // namespace

memory::Status prepare_saving(const ServeFlags& flags) {
  if (!flags.save_result && !flags.append_result) return {};
  if (!flags.result_dir.empty()) {
    std::error_code error;
    std::filesystem::create_directories(flags.result_dir, error);
    if (error) {
      return {memory::Code::kInternal, "--result-dir " + flags.result_dir + ": " + error.message()};
    }
  }
  const bool named = !flags.result_filename.empty();
  return check_can_save(path_of(flags, named ? flags.result_filename : "engram-bench.json"));
}

memory::Status save_result(
    const ServeFlags& flags,
    const ServeRun& run,
    const ServeMetrics& metrics,
    std::span<const RequestRecord> records) {
  if (!flags.save_result && !flags.append_result) return {};
  const bool named = !flags.result_filename.empty();
  const std::string path = path_of(flags, named ? flags.result_filename : result_file_name(run));
  const std::string json = result_json(run, metrics, records);
  ENGRAM_RETURN_IF_ERROR(
      flags.append_result ? append_line(path, json) : save_text(path, json + "\n"));
  std::fprintf(stderr, "engram: result in %s\n", path.c_str());
  if (!flags.save_csv) return {};
  const std::string csv = std::filesystem::path(path).replace_extension(".csv").string();
  ENGRAM_RETURN_IF_ERROR(save_text(csv, records_csv(records)));
  std::fprintf(stderr, "engram: requests in %s\n", csv.c_str());
  return {};
}

}  // namespace engram::tools::bench
