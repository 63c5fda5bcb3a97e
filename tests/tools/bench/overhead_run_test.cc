// Whole runs of `engram bench overhead` on a small model: the keys of the report, what is refused
// before anything runs, and what a stop leaves behind.
#include "tools/bench/overhead_run.h"

#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/temp_directory.h"

namespace engram::tools::bench {
namespace {

using memory::Code;
using memory::Status;
using nlohmann::json;

struct Fixture {
  Fixture() {
    options.model = tests::checkpoint_directory("tiny-engram");
    options.work_directory = directory.path();
    options.threads = 2;
    options.experiment.rounds = 7;
    options.batches = {1, 2};
    options.input_tokens = 12;
    options.output_tokens = 6;
    options.prompt_tokens = {24};
    options.num_seqs = 4;
    options.input = {5, 9};
    options.output = {2, 4};
    options.request_rate = 300;
  }
  Status run() { return run_overhead(options, &report, {}, {}); }
  bool clean() const { return std::filesystem::is_empty(directory.path()); }

  tests::TempDirectory directory;
  OverheadOptions options;
  OverheadReport report;
};

const char* const kPointKeys[] = {
    "workload",         "batch",         "input_tokens", "output_tokens",
    "table_parameters", "table_bytes",   "contention",   "arms",
    "comparisons",      "split_percent", "quiet",        "table_pages"};
const char* const kArmKeys[] = {"name",      "output_throughput", "total_throughput", "ttft_ms",
                                "tpot_ms",   "step_ms",           "exposed_wait_us",  "rows",
                                "bytes",     "unique_rows",       "gather_gbps",      "link_share",
                                "token_hash"};

}  // namespace

TEST_CASE("overhead run: sizes, workloads, arms and contention, all in the report") {
  Fixture f;
  f.options.arms = {"N", "D", "S", "Z", "V"};
  f.options.workloads = {"w1", "w3", "w4", "w5"};
  f.options.table_parameters = {0, 100000};
  f.options.contention = true;
  double before = 0;
  int points = 0;
  const Status status = run_overhead(
      f.options, &f.report,
      [&](const OverheadProgress& p) {
        CHECK(p.done >= before);
        CHECK(p.done <= 1);
        before = p.done;
      },
      [&](const ReportPoint&) { ++points; });
  CAPTURE(status.to_string());
  REQUIRE(status.ok());
  CHECK(before == 1);
  CHECK(points == 20);
  CHECK(f.clean());

  const json report = json::parse(overhead_json(f.report));
  CHECK(report["x_kind"] == "overhead");
  CHECK(report["x_schema"] == 1);
  for (const char* key :
       {"engram_version", "date", "command", "label", "machine", "model", "settings", "peaks",
        "scaled_down", "points", "interrupted"}) {
    CAPTURE(key);
    CHECK(report.contains(key));
  }
  CHECK(report["machine"]["cores"].get<int>() > 0);
  CHECK(report["machine"]["link"].is_null());
  CHECK(report["machine"]["page_mode"].is_string());
  CHECK(report["model"]["engram_layers"] == json({1, 3}));
  CHECK(report["peaks"]["read_gbps"].get<double>() > 0);
  CHECK(report["peaks"]["link_gbps"].is_null());
  CHECK_THAT(report["scaled_down"].get<std::string>(), Catch::Contains("4 sequences"));
  REQUIRE(report["points"].size() == 20);
  for (const json& point : report["points"]) {
    CAPTURE(point["workload"].dump(), point["batch"].dump());
    for (const char* key : kPointKeys) REQUIRE(point.contains(key));
    REQUIRE(point["arms"].size() == 5);
    CHECK(point["contention_gbps"].is_null() != point["contention"].get<bool>());
    const std::string hash = point["arms"]["D"]["token_hash"];
    for (const auto& [name, arm] : point["arms"].items()) {
      CAPTURE(name);
      for (const char* key : kArmKeys) REQUIRE(arm.contains(key));
      CHECK(arm["output_throughput"]["samples"].size() == 7);
      CHECK(arm["ttft_ms"]["median"].get<double>() > 0);
      const bool fetches = name != "N" && name != "Z";
      CHECK(arm["rows"].is_null() != fetches);
      CHECK(arm["exposed_wait_us"]["p99"].is_null() != fetches);
      CHECK(arm["link_share"].is_null());
      if (fetches) CHECK(arm["token_hash"] == hash);
      // One token has no time per further token.
      CHECK(arm["tpot_ms"]["median"].is_null() == (point["workload"] == "w4"));
    }
    CHECK(point["split_percent"]["launches"].is_null());
    CHECK(point["split_percent"]["exposed_wait"].is_number());
    CHECK(point["quiet"]["quiet"].is_boolean());
    bool told = false;
    for (const json& c : point["comparisons"]) {
      told |= c["arm"] == "D" && c["baseline"] == "N" && c["metric"] == "output_throughput";
      CHECK(c["overhead_percent"]["low"] <= c["overhead_percent"]["value"]);
      CHECK(c["overhead_percent"]["value"] <= c["overhead_percent"]["high"]);
      CHECK(c["text"].is_string());
    }
    CHECK(told);
  }
  CHECK(report["flatness"].size() == 20);
  // Both sizes of a workload follow each other: they were measured in turns.
  CHECK(report["settings"]["sizes_in_turns"] == true);
  for (size_t i = 0; i < report["points"].size(); i += 2) {
    const json& one = report["points"][i];
    const json& other = report["points"][i + 1];
    CHECK(one["workload"] == other["workload"]);
    CHECK(one["batch"] == other["batch"]);
    CHECK(one["table_parameters"] != other["table_parameters"]);
  }
}

TEST_CASE("overhead run: tables are touched before rounds, and what that took is told") {
  Fixture f;
  f.options.arms = {"N", "D"};
  f.options.batches = {1};
  REQUIRE(f.run().ok());
  f.options.touch_tables = true;
  REQUIRE(f.run().ok());
  REQUIRE(f.report.points.size() == 2);
  const TablePages& untouched = f.report.points[0].pages;
  const TablePages& touched = f.report.points[1].pages;
  CHECK(untouched.count > 0);
  CHECK(touched.count == untouched.count);
  CHECK(untouched.before_rounds_s.empty());
  CHECK(std::ssize(touched.before_rounds_s) == f.options.experiment.rounds + 1);
  const json report = json::parse(overhead_json(f.report));
  CHECK(report["points"][0]["table_pages"]["touched_before_rounds"].is_null());
  CHECK(report["points"][0]["table_pages"]["again_ns"].get<double>() > 0);
  CHECK(report["points"][1]["table_pages"]["touched_before_rounds"]["ms_p50"].get<double>() > 0);
  CHECK_THAT(point_text(f.report.points[1]), Catch::Contains("tables touched before each round"));

  ReportPoint point = f.report.points[0];
  point.pages = {.count = 1000, .before_rounds_s = {}, .after_rounds_s = 1e-4, .again_s = 2e-5};
  CHECK_THAT(point_text(point), Catch::Contains("took pages of the tables away"));
  point.pages.after_rounds_s = 3e-5;
  CHECK_THAT(point_text(point), !Catch::Contains("took pages"));
}

TEST_CASE("overhead run: one size after another") {
  Fixture f;
  f.options.arms = {"N", "D"};
  f.options.table_parameters = {0, 100000};
  f.options.sizes_apart = true;
  REQUIRE(f.run().ok());
  const json report = json::parse(overhead_json(f.report));
  CHECK(report["settings"]["sizes_in_turns"] == false);
  std::vector<int> batches;
  for (const json& point : report["points"]) batches.push_back(point["batch"]);
  CHECK(batches == std::vector<int>{1, 2, 1, 2});
  CHECK(report["points"][0]["table_parameters"] == report["points"][1]["table_parameters"]);
  CHECK(report["points"][1]["table_parameters"] != report["points"][2]["table_parameters"]);
  CHECK(report["flatness"].size() == 2);
}

TEST_CASE("overhead run: rows and cache of other types") {
  uint64_t bf16_rows = 0;
  for (const char* codec : {"bf16", "f8_e4m3", "f8_e4m3+ue8m0", "int4"}) {
    CAPTURE(codec);
    Fixture f;
    f.options.model = tests::demo_directory();
    f.options.arms = {"N", "D", "S", "V"};
    f.options.batches = {2};
    f.options.table_codec = codec;
    const Status status = f.run();
    CAPTURE(status.to_string());
    REQUIRE(status.ok());
    const ReportPoint& point = f.report.points.at(0);
    // Rows of 32 values.
    const std::string name = codec;
    const int64_t row_bytes = name == "bf16"      ? 64
                              : name == "f8_e4m3" ? 32
                              : name == "int4"    ? 18
                                                  : 33;
    const int64_t rows = point.table_parameters / 32;
    CHECK(point.table_bytes >= rows * row_bytes);
    CHECK(point.table_bytes < rows * row_bytes + 3 * 4096);
    const ArmRounds* fetched = point.result.find("D");
    CHECK(fetched->samples[0].bytes == fetched->samples[0].rows * row_bytes);
    CHECK(fetched->token_hash == point.result.find("S")->token_hash);
    CHECK(fetched->token_hash == point.result.find("V")->token_hash);
    if (name == "bf16") bf16_rows = fetched->token_hash;
    CHECK((fetched->token_hash == bf16_rows) == (name == "bf16"));
    const json report = json::parse(overhead_json(f.report));
    CHECK(report["settings"]["table_codec"] == codec);
    CHECK(report["settings"]["kv_cache_dtype"] == "float32");
    CHECK(report["points"][0]["table_codec"] == codec);
    CHECK_THAT(point_text(point), Catch::Contains("B parameters in " + name + "\n"));
  }
  Fixture f;
  f.options.arms = {"N", "D"};
  f.options.kv_cache_dtype = "fp8";
  REQUIRE(f.run().ok());
  CHECK(json::parse(overhead_json(f.report))["settings"]["kv_cache_dtype"] == "fp8");
}

TEST_CASE("overhead run: real text through the model's tokenizer") {
  Fixture f;
  f.options.model = tests::demo_directory();
  f.options.workloads = {"w2"};
  f.options.arms = {"N", "D"};
  f.options.text = tests::demo_directory() + "/README.md";
  REQUIRE(f.run().ok());
  CHECK(f.report.points.size() == 1);
  f.directory.write("short", "a few words");
  f.options.text = f.directory.file("short");
  f.options.input = {100, 100};
  const Status status = f.run();
  CHECK(status.code() == Code::kInvalidArgument);
  CHECK_THAT(status.message(), Catch::Contains("expected more than the longest prompt, 100"));
}

TEST_CASE("overhead run: what cannot be is refused before anything runs") {
  const auto refused = [](const std::function<void(OverheadOptions*)>& change, Code code) {
    Fixture f;
    change(&f.options);
    const Status status = f.run();
    CHECK(status.code() == code);
    CHECK(f.report.points.empty());
    CHECK(f.clean());
    return status.message();
  };
  const auto usage = [&](const std::function<void(OverheadOptions*)>& change, const char* text) {
    CHECK_THAT(refused(change, Code::kInvalidArgument), Catch::Contains(text));
  };
  usage([](OverheadOptions* o) { o->arms = {"N", "H"}; }, "on the CPU H is D");
  usage([](OverheadOptions* o) { o->arms = {"N", "N"}; }, "--arms: one is given twice");
  usage([](OverheadOptions* o) { o->arms = {}; }, "--arms: none given");
  usage([](OverheadOptions* o) { o->workloads = {"w9"}; }, "--workload w9");
  usage([](OverheadOptions* o) { o->workloads = {"w2"}; }, "--text");
  usage(
      [](OverheadOptions* o) {
        o->workloads = {"w5"};
        o->request_rate = 0;
      },
      "--request-rate");
  usage([](OverheadOptions* o) { o->experiment.rounds = 6; }, "at least 7");
  usage([](OverheadOptions* o) { o->batches = {0}; }, "at least 1");
  usage([](OverheadOptions* o) { o->table_codec = "int3"; }, "--table-codec must be one of bf16,");
  usage(
      [](OverheadOptions* o) {
        o->fake = true;
        o->table_codec = "int8";
      },
      "--table-codec: simulated arms");
  usage(
      [](OverheadOptions* o) {
        o->dtype = "bfloat16";
        o->kv_cache_dtype = "float32";
      },
      "--kv-cache-dtype float32 needs --dtype float32");
  usage(
      [](OverheadOptions* o) { o->model = tests::checkpoint_directory("tiny-dense"); },
      "no Engram layers");
  const std::string memory = refused(
      [](OverheadOptions* o) {
        o->table_parameters = {0, 1000000000000};
      },
      Code::kResourceExhausted);
  CHECK_THAT(memory, Catch::Contains("1e+03B parameters: "));
  CHECK_THAT(memory, Catch::Contains("of memory are needed (tables 1"));
  refused([](OverheadOptions* o) { o->model = "no-such-directory"; }, Code::kNotFound);
}

TEST_CASE("overhead run: a stop keeps what there is and removes the files") {
  Fixture f;
  std::atomic<bool> stop = false;
  f.options.experiment.stop = &stop;
  f.options.arms = {"N", "D", "V"};
  f.options.batches = {1, 2, 3};
  const Status status =
      run_overhead(f.options, &f.report, {}, [&](const ReportPoint&) { stop = true; });
  REQUIRE(status.ok());
  CHECK(f.report.interrupted);
  CHECK(f.report.points.size() == 1);
  CHECK(json::parse(overhead_json(f.report))["interrupted"] == true);
  CHECK(f.clean());
}

TEST_CASE("overhead run: simulated arms report what they were told") {
  Fixture f;
  f.options.fake = true;
  f.options.fake_overhead_percent = 4;
  f.options.fake_own_noise = 0;
  f.options.fake_stall_probability = 0;
  f.options.arms = {"N", "D", "S", "Z", "V"};
  f.options.workloads = {"w1", "w2", "w3", "w4", "w5"};
  REQUIRE(f.run().ok());
  REQUIRE(f.report.points.size() == 6);
  for (const ReportPoint& p : f.report.points) {
    CAPTURE(p.result.workload.name);
    if (p.result.workload.name == "w5") continue;  // who joins whom depends on the arm's speed
    const Estimate e =
        overhead_of(*p.result.find("D"), *p.result.find("N"), p.result.workload.metric);
    CHECK(e.value == Approx(4));
    const CostSplit split = split_cost(p.result);
    CHECK(split.projections_and_gate == Approx(2));
    CHECK(split.projections_and_gate + split.exposed_wait + split.interference == Approx(4));
    CHECK_THAT(point_text(p), Catch::Contains("D = H"));
    CHECK_THAT(point_text(p), Catch::Contains("+4.00 % (+4.00 to +4.00)"));
  }
}

TEST_CASE("overhead report: flat is when the intervals have a value in common") {
  Flatness f;
  f.overhead = {{1, 0, 2, 11}, {2, 1.5, 3, 11}, {1.7, 1, 1.8, 11}};
  f.table_parameters = {100, 1000, 10000};
  CHECK(f.flat());
  f.overhead.push_back({4, 3.5, 5, 11});
  f.table_parameters.push_back(100000);
  CHECK_FALSE(f.flat());
  CHECK_THAT(flatness_text(f), Catch::Contains("NOT flat"));
}

TEST_CASE("overhead report: a noisy point says so, an empty one too") {
  ReportPoint p;
  p.result.workload.name = "w3";
  Sample sample;
  sample.output_throughput = 5;
  p.result.arms.push_back({"D", "host", 7, {sample}});
  p.result.quiet = {12, 10};
  CHECK_THAT(point_text(p), Catch::Contains("NOISY, do not believe it"));
  OverheadReport report;
  report.points.push_back(p);
  p.result.arms[0].samples.clear();
  report.points.push_back(p);
  CHECK_THAT(point_text(p), Catch::Contains("no round was finished"));
  const json written = json::parse(overhead_json(report));
  CHECK(written["points"][0]["quiet"]["quiet"] == false);
  CHECK(written["points"][1]["quiet"]["quiet"].is_null());
  CHECK(written["points"][1]["arms"]["D"]["output_throughput"]["median"].is_null());
  CHECK(written["points"][0]["arms"]["D"]["ttft_ms"]["median"].is_null());
  CHECK(written["points"][0]["table_parameters"].is_null());
}

}  // namespace engram::tools::bench
