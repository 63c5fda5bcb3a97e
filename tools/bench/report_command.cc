// engram bench report: results as one page, and as a flat table.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "memory/io/file_write.h"
#include "tools/bench/bench.h"
#include "tools/bench/report.h"
#include "tools/bench/result_file.h"

namespace engram::tools::bench {
namespace {

struct ReportArguments {
  std::vector<std::string> results;
  std::string page;
  std::string csv;
};

constexpr const char* kFooter =
    "Reads what `engram bench serve`, `overhead` and `paper` save, and what `vllm bench serve\n"
    "--save-result` saves. Several load runs at different rates become curves. Distributions and\n"
    "timelines need runs saved with --save-detailed.";

memory::Status write_to(const std::string& path, const std::string& text) {
  if (path != "-") return memory::write_text_file(path, text);
  std::fwrite(text.data(), 1, text.size(), stdout);
  const bool written = std::fflush(stdout) == 0;
  return written ? memory::Status() : memory::internal("standard output: cannot be written");
}

int report(const ReportArguments& a) {
  ResultSet results;
  memory::Status status;
  for (const std::string& path : a.results) {
    if (status.ok()) status = read_results(path, &results);
  }
  if (status.ok() && !a.page.empty()) status = write_to(a.page, report_page(results));
  if (status.ok() && !a.csv.empty()) status = write_to(a.csv, report_csv(results));
  if (status.ok()) return kDone;
  std::fprintf(stderr, "engram: %s\n", status.message().c_str());
  return kFailed;
}

}  // namespace

void add_report_command(CLI::App& bench, Invocation* invocation) {
  CLI::App* command =
      bench.add_subcommand("report", "One self-contained HTML page, or CSV, of saved results");
  command->footer(kFooter);
  auto a = std::make_shared<ReportArguments>();
  command->add_option("results", a->results, "RESULT.json...")->required();
  command->add_option("-o,--output", a->page, "Writes the page here; - is standard output");
  command->add_option("--csv", a->csv, "Writes a row per figure here; - is standard output");
  command->callback([a, invocation] {
    invocation->run = [a] {
      if (a->page.empty() && a->csv.empty()) {
        return report_usage("say where to write: -o report.html, or --csv figures.csv");
      }
      return report(*a);
    };
  });
}

}  // namespace engram::tools::bench
