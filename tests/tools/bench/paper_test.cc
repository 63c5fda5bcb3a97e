// `engram bench paper`: how models are scaled, what is refused, and the paper's way of counting.
#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "memory/io/file.h"
#include "tests/support/checkpoints.h"
#include "tests/support/temp_directory.h"
#include "tools/bench/paper_run.h"

namespace engram::tools::bench {
namespace {

using memory::Code;
using memory::Status;
using nlohmann::json;

std::string paper_config(const std::string& name) {
  const auto text = memory::read_text_file(
      std::string(ENGRAM_SOURCE_DIR) + "/configs/bench/" + name + "/config.json", 1 << 20);
  REQUIRE(text.ok());
  return text.value();
}

engine::ModelConfig scaled(const std::string& name, const PaperScale& scale, int64_t table) {
  const auto text = scale_config(paper_config(name), name, scale, table);
  REQUIRE(text.ok());
  const auto config = engine::parse_config(text.value(), name);
  REQUIRE(config.ok());
  return config.value();
}

struct Fixture {
  Fixture() {
    options.models = {tests::checkpoint_directory("tiny-engram")};
    options.table_parameters = 100000;
    options.num_seqs = 3;
    options.input = {5, 9};
    options.output = {2, 4};
    options.max_num_seqs = 4;
    options.max_num_batched_tokens = 32;
    options.threads = 2;
    options.work_directory = directory.path();
    options.experiment.rounds = 7;
    room.host = int64_t{2} << 30;
  }
  Status run() { return run_paper(options, room, &report, {}, {}); }

  tests::TempDirectory directory;
  PaperOptions options;
  PaperRoom room;
  PaperReport report;
};

}  // namespace

TEST_CASE("paper: the configurations have the shapes they stand for") {
  const auto small = scaled("paper-4b", {}, kPaperTableParameters);
  const auto large = scaled("paper-8b", {}, kPaperTableParameters);
  // Qwen3-4B and 8B, and 100B parameters in one table of the second block.
  CHECK(small.hidden_size == 2560);
  CHECK(large.hidden_size == 4096);
  for (const engine::ModelConfig& c : {small, large}) {
    CHECK(c.num_hidden_layers == 36);
    CHECK(c.engram.layer_ids == std::vector<int>{1});
    CHECK(c.engram.vector_width() * c.engram.vocab_size[0] == kPaperTableParameters);
  }
  const double billion = 1e9;
  const PaperSize size = {.table_parameters = 1, .sequences = 1, .longest = 16};
  CHECK(paper_needs(small, size).weights / 2.2 == Approx(4.02 * billion).epsilon(0.01));
  CHECK(paper_needs(large, size).weights / 2.2 == Approx(8.19 * billion).epsilon(0.01));
}

TEST_CASE("paper: scaled models keep what scaling must not break") {
  const auto whole = scaled("paper-4b", {}, kPaperTableParameters);
  const auto half = scaled("paper-4b", {0.5, 0.25}, 1000000);
  CHECK(half.num_hidden_layers == 18);
  CHECK(half.hidden_size == 640);
  CHECK(half.intermediate_size == 2432);
  CHECK(half.num_key_value_heads == 2);
  CHECK(half.num_attention_heads == 8);
  CHECK(half.engram.vocab_size[0] == 1000000 / 1280);
  const auto least = scaled("paper-4b", {0.001, 0.001}, 1);
  CHECK(least.num_hidden_layers == 2);  // the n-gram layer is the second
  CHECK(least.hidden_size == 64);
  CHECK(least.num_key_value_heads == 1);
  CHECK(least.num_attention_heads == 4);
  CHECK(describe_scaling(whole, whole, kPaperTableParameters).empty());
  CHECK(
      describe_scaling(whole, half, 1000000) ==
      "layers 36 -> 18, hidden size 2560 -> 640, feed-forward size 9728 -> 2432, attention heads "
      "32 -> 8, table parameters 100B -> 0.001B");
}

TEST_CASE("paper: memory is counted by part") {
  const auto c = scaled("paper-4b", {}, kPaperTableParameters);
  const memory::DType bf16 = memory::DType::kBf16;
  const PaperNeeds n = paper_needs(
      c, {.table_parameters = 1000,
          .sequences = 2,
          .longest = 160,
          .activations = bf16,
          .cache = bf16});
  CHECK(n.tables == 2000);
  // Two sequences of 160 tokens and two pages more, keys and values of 8 heads of 128, and the
  // inputs of the convolution.
  CHECK(n.cache == 2 * (160 + 32) * 2 * (2 * 8 * 128 * 36 + 2560));
  CHECK(n.total() == n.weights + n.tables + n.cache + n.other);
  const auto table = [&](memory::RowCodec codec) {
    return paper_needs(c, {.table_parameters = kPaperTableParameters, .codec = codec}).tables;
  };
  // Rows of 80 values: integers have a scale of two bytes per 16.
  CHECK(table(memory::RowCodec::kF8Tensor) == kPaperTableParameters);
  CHECK(table(memory::RowCodec::kInt8) == kPaperTableParameters * 18 / 16);
  CHECK(table(memory::RowCodec::kInt4) == kPaperTableParameters * 10 / 16);
  // fp8 keys and values: a byte each, and for each head of a token two scales of a byte.
  const PaperNeeds fp8 = paper_needs(
      c, {.sequences = 2, .longest = 160, .activations = bf16, .cache = memory::DType::kF8E4m3});
  CHECK(fp8.cache == 2 * (160 + 32) * (2 * 8 * (128 + 1) * 36 + 2 * 2560));
}

TEST_CASE("paper: the paper's figures and its way of counting") {
  const PaperFigures* small = find_paper_figures("paper-4b");
  REQUIRE(small != nullptr);
  CHECK(small->loss_percent() == Approx(1.92).margin(0.005));
  CHECK(find_paper_figures("paper-8b")->loss_percent() == Approx(2.78).margin(0.005));
  CHECK(find_paper_figures("mine") == nullptr);
  PointResult point;
  point.workload.metric = "output_throughput";
  for (const auto& [key, rate] : {std::pair{"N", 9031.62}, std::pair{"D", 8858.28}}) {
    Sample sample;
    sample.output_throughput = rate;
    point.arms.push_back({key, key, 0, std::vector<Sample>(7, sample)});
  }
  CHECK(loss_percent(point, "D").value == Approx(small->loss_percent()));
  CHECK(loss_percent(point, "D").rounds == 7);
  CHECK(loss_percent(point, "N").rounds == 0);
  CHECK(loss_percent(point, "H").rounds == 0);
}

TEST_CASE("paper: a run of a small model, and its report") {
  Fixture f;
  const Status status = f.run();
  CAPTURE(status.to_string());
  REQUIRE(status.ok());
  CHECK(std::filesystem::is_empty(f.directory.path()));
  const json report = json::parse(paper_json(f.report));
  CHECK(report["x_kind"] == "paper");
  CHECK(report["x_schema"] == 1);
  CHECK_THAT(
      report["scaled_down"].get<std::string>(),
      Catch::Contains("table parameters 100B -> 0.0001B") &&
          Catch::Contains("sequences 512 -> 3") &&
          Catch::Contains("prompt lengths 100:1024 -> 5:9"));
  REQUIRE(report["points"].size() == 1);
  const json& point = report["points"][0];
  CHECK(point["model"] == "tiny-engram");
  CHECK(point["workload"] == "w1, tiny-engram");
  CHECK(point["batch"] == 3);
  CHECK(point["rounds"] == 7);
  CHECK(point["arms"].size() == 2);
  REQUIRE(report["paper"].size() == 2);
  CHECK(report["paper"][0]["paper_output_throughput"].is_null());
  CHECK(report["paper"][1]["arm"] == "D");
  CHECK(report["paper"][1]["output_throughput"].get<double>() > 0);
  CHECK(report["paper"][1]["loss_percent"]["low"].is_number());
  CHECK(report["models"][0]["scaled_down"].is_string());
  const std::string text = paper_text(f.report);
  CHECK_THAT(text, Catch::StartsWith("\nSCALED DOWN"));
  CHECK_THAT(text, Catch::Contains("tiny-engram SCALED"));
}

TEST_CASE("paper: fp8 rows and an fp8 cache, in the file and in the text") {
  Fixture f;
  f.options.table_codec = "f8_e4m3";
  f.options.kv_cache_dtype = "fp8";
  const Status status = f.run();
  CAPTURE(status.to_string());
  REQUIRE(status.ok());
  const json report = json::parse(paper_json(f.report));
  CHECK(report["settings"]["table_codec"] == "f8_e4m3");
  CHECK(report["settings"]["kv_cache_dtype"] == "fp8");
  const json& point = report["points"][0];
  CHECK(point["table_codec"] == "f8_e4m3");
  const int64_t more =
      point["table_bytes"].get<int64_t>() - point["table_parameters"].get<int64_t>();
  CHECK(more >= 0);
  CHECK(more <= 2 * 4096);
  CHECK_THAT(
      paper_text(f.report),
      Catch::Contains("activations float32, keys and values fp8, table rows f8_e4m3, greedy"));
}

TEST_CASE("paper: what cannot be is refused before anything runs, and what can be is said") {
  const auto refused = [](const std::function<void(Fixture*)>& change, Code code) {
    Fixture f;
    change(&f);
    const Status status = f.run();
    CHECK(status.code() == code);
    CHECK(f.report.run.machine.cpu.empty());
    return status.message();
  };
  refused([](Fixture* f) { f->options.scale = 0; }, Code::kInvalidArgument);
  refused([](Fixture* f) { f->options.scale_width = 1.5; }, Code::kInvalidArgument);
  refused([](Fixture* f) { f->options.models = {"/nowhere"}; }, Code::kNotFound);
  refused([](Fixture* f) { f->options.models.clear(); }, Code::kInvalidArgument);
  refused([](Fixture* f) { f->options.arms = {"D"}; }, Code::kInvalidArgument);
  refused(
      [](Fixture* f) { f->options.models = {tests::checkpoint_directory("tiny-dense")}; },
      Code::kInvalidArgument);
  const std::string narrow = refused(
      [](Fixture* f) {
        f->options.models = {std::string(ENGRAM_SOURCE_DIR) + "/configs/bench/paper-4b"};
        f->options.table_codec = "f8_e4m3+ue8m0";
      },
      Code::kInvalidArgument);
  CHECK_THAT(narrow, Catch::StartsWith("paper-4b: --table-codec f8_e4m3+ue8m0 cannot store"));
  refused([](Fixture* f) { f->options.table_codec = "fp8"; }, Code::kInvalidArgument);
  const std::string fp8 = refused(
      [](Fixture* f) {
        f->options.table_codec = "f8_e4m3";
        f->options.table_parameters = 100'000'000'000;
      },
      Code::kResourceExhausted);
  CHECK_THAT(fp8, Catch::Contains("table 93.13 GiB"));
  CHECK_THAT(fp8, Catch::Contains("--table-parameters 1.4"));  // twice as many
  const std::string table = refused(
      [](Fixture* f) { f->options.table_parameters = 100'000'000'000; }, Code::kResourceExhausted);
  CHECK_THAT(table, Catch::Contains("table 186.26 GiB") && Catch::Contains("2.00 GiB"));
  CHECK_THAT(table, Catch::Contains("--table-parameters 7"));  // nine tenths of 1.5 GiB, by 2
  const std::string scale = refused(
      [](Fixture* f) {
        f->options.table_parameters = 0;
        f->options.num_seqs = 0;
      },
      Code::kResourceExhausted);
  CHECK_THAT(scale, Catch::Contains("--scale 0.00"));
  const std::string none =
      refused([](Fixture* f) { f->room.host = 1000; }, Code::kResourceExhausted);
  CHECK_THAT(none, Catch::Contains("not even a small part"));
  // A device that holds weights and cache, and a host that holds no table.
  const std::string device = refused(
      [](Fixture* f) {
        f->room.device = int64_t{1} << 40;
        f->options.table_parameters = 10'000'000'000;
      },
      Code::kResourceExhausted);
  CHECK_THAT(device, Catch::Contains("of the device's"));
}

TEST_CASE("paper: a stop in the middle of a measurement keeps the rounds before it") {
  Fixture f;
  std::atomic<bool> stop = false;
  f.options.experiment.stop = &stop;
  f.options.num_seqs = 40;
  f.options.output = {200, 240};
  f.options.max_num_seqs = 4;
  const Status status = run_paper(
      f.options, f.room, &f.report,
      [&](const OverheadProgress& p) {
        // Eight rounds of three measurements: after the warm-up and one that counts.
        if (p.done >= 6. / 24) stop = true;
      },
      {});
  REQUIRE(status.ok());
  CHECK(f.report.run.interrupted);
  REQUIRE(f.report.models.size() == 1);
  CHECK(f.report.models[0].point.result.rounds() == 1);
  const json report = json::parse(paper_json(f.report));
  CHECK(report["interrupted"] == true);
  CHECK(report["paper"][1]["loss_percent"].is_null());
  CHECK(report["paper"][1]["output_throughput"].get<double>() > 0);
}

}  // namespace engram::tools::bench
