// engram bench compare: two saved runs of the same kind beside each other.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "tools/bench/bench.h"
#include "tools/bench/compare_results.h"

namespace engram::tools::bench {
namespace {

struct CompareArguments {
  std::string a;
  std::string b;
  bool json = false;
};

constexpr const char* kFooter =
    "Differences are B over A - 1. An interval is given where the files hold samples: rounds of "
    "an\n"
    "experiment, requests of load runs saved with --save-detailed. \"not distinguishable\": the\n"
    "interval holds 0. Exits 0 whatever the difference is.";

int fail(const memory::Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.message().c_str());
  return kFailed;
}

int compare(const CompareArguments& arguments) {
  ResultSet a;
  ResultSet b;
  memory::Status status = read_results(arguments.a, &a);
  if (status.ok()) status = read_results(arguments.b, &b);
  if (!status.ok()) return fail(status);
  const memory::Result<RunComparison> comparison = compare_results(a, b);
  if (!comparison.ok()) return fail(comparison.status());
  const std::string text =
      arguments.json ? comparison_json(comparison.value()) : comparison_text(comparison.value());
  std::fwrite(text.data(), 1, text.size(), stdout);
  return kDone;
}

}  // namespace

void add_compare_command(CLI::App& bench, Invocation* invocation) {
  CLI::App* command =
      bench.add_subcommand("compare", "What differs between two saved results, with intervals");
  command->footer(kFooter);
  auto a = std::make_shared<CompareArguments>();
  command->add_option("A", a->a, "A.json")->required();
  command->add_option("B", a->b, "B.json")->required();
  command->add_flag("--json", a->json, "One object");
  command->callback([a, invocation] { invocation->run = [a] { return compare(*a); }; });
}

}  // namespace engram::tools::bench
