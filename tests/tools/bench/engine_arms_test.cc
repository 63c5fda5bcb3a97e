// Arms on one real engine of made-up weights: what each does, that all placements answer alike, and
// that a placement with wrong rows is found out.
#include "tools/bench/engine_arms.h"

#include <catch2/catch.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "tests/support/checkpoints.h"
#include "tests/support/store_wrapper.h"
#include "tests/support/temp_directory.h"
#include "tools/bench/sized_model.h"

namespace engram::tools::bench {
namespace {

using engine::Engine;
using engine::EngineOptions;
using memory::Result;
using memory::RowCodec;

constexpr int64_t kParameters = 200000;

EngineOptions small_engine(const SizedModel& model) {
  EngineOptions o;
  o.model = model.directory;
  o.load_format = std::string("dummy");
  o.device = std::string("cpu");
  o.threads = 2;
  o.max_num_seqs = 8;
  o.max_num_batched_tokens = 64;
  o.kv_cache_bytes = 8 << 20;
  o.max_model_len = 128;
  o.max_queued_requests = 100;
  return o;
}

// An engine with its tables in memory and, idle, on NVMe.
struct Rig {
  explicit Rig(const std::function<void(EngineOptions*)>& change) {
    Result<SizedModel> made = make_sized_model(
        tests::checkpoint_directory("tiny-engram"), kParameters, RowCodec::kBf16, directory.path());
    REQUIRE(made.ok());
    model = std::move(made).value();
    EngineOptions o = small_engine(model);
    change(&o);
    Result<std::unique_ptr<Engine>> started = engine::make_engine(o);
    CAPTURE(started.status().to_string());
    REQUIRE(started.ok());
    engine = std::move(started).value();
    REQUIRE(
        write_table_files(model.config, RowCodec::kBf16, directory.path(), 2, nullptr, {}).ok());
    memory::TableSetOptions nvme;
    nvme.directory = directory.path();
    nvme.placement = "nvme";
    nvme.io = memory::IoBackend::kThreads;  // see table_swap_test.cc
    const Result<size_t> opened = engine->open_idle_tables(nvme);
    CAPTURE(opened.status().to_string());
    REQUIRE(opened.ok());
    // A copy in memory plays the device's.
    nvme.placement.clear();
    REQUIRE(engine->open_idle_tables(nvme).ok());
    auto all =
        EngineArms::make(engine.get(), {"host", {"nvme", "hbm"}}, {"N", "D", "S", "Z", "V", "H"});
    REQUIRE(all.ok());
    arms = std::move(all).value();
  }

  tests::TempDirectory directory;
  SizedModel model;
  std::unique_ptr<Engine> engine;
  std::unique_ptr<EngineArms> arms;
};

Workload decode(int64_t id_limit) {
  Workload w;
  w.name = "w3";
  w.batch = 3;
  w.input = {20, 20};
  w.output = {12, 12};
  w.decode_only = true;
  w.metric = "step_ms";
  w.id_limit = id_limit;
  return w;
}

// Rows of tables that are opened later have one element changed.
class WrongStore : public tests::StoreWrapper {
  using StoreWrapper::StoreWrapper;

 private:
  memory::Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      memory::View out,
      std::vector<int32_t>* failed) override {
    const memory::Status status = inner().gather(row_ids, slots, tokens, out, failed);
    for (int64_t t = 0; t < tokens; ++t) {
      float* row = out.row<float>(slots[t]);
      for (int64_t i = 0; i < out.cols; ++i) row[i] = -4 * row[i];
    }
    return status;
  }
};

}  // namespace

TEST_CASE("engine arms: each does what its letter says") {
  const Rig rig([](EngineOptions*) {});
  const Workload workload = decode(rig.model.config.vocab_size);
  ExperimentOptions options;
  options.rounds = 7;
  const Result<PointResult> run = run_experiment(rig.arms->entries(), workload, options);
  CAPTURE(run.status().to_string());
  REQUIRE(run.ok());
  const PointResult& point = run.value();
  const auto& engram = rig.model.config.engram;
  // The last token of an answer is not run.
  const int64_t rows =
      3 * (20 + 12 - 1) * engram.columns() * static_cast<int64_t>(engram.layer_ids.size());
  const uint64_t hash = point.find("D")->token_hash;
  for (const ArmRounds& arm : point.arms) {
    CAPTURE(arm.key);
    REQUIRE(arm.samples.size() == 7);
    const bool fetches = arm.key != "N" && arm.key != "Z";
    CHECK((arm.token_hash == hash) == fetches);
    for (const Sample& sample : arm.samples) {
      CHECK(sample.output_throughput > 0);
      CHECK(sample.total_throughput > sample.output_throughput);
      CHECK(sample.ttft_ms > 0);
      CHECK(sample.tpot_ms > 0);
      CHECK(sample.step_ms > 0);
      CHECK(sample.step_seconds.size() == 11);
      CHECK(sample.wait_seconds.size() == 11);
      CHECK(sample.rows == (fetches ? rows : 0));
      CHECK(sample.bytes == sample.rows * engram.head_dim * 2);
      CHECK(sample.tokens.empty());
    }
    const auto waited = [](const Sample& s) { return s.wait_seconds.front() > 0; };
    if (arm.key == "S") CHECK(std::ranges::all_of(arm.samples, waited));
    if (!fetches) CHECK(std::ranges::none_of(arm.samples, waited));
  }
  // V did read the drive.
  int on_nvme = 0;
  for (const size_t place : {size_t{0}, size_t{0}, size_t{1}, size_t{1}}) {
    const memory::TableReport report = rig.engine->tables()[0];
    on_nvme += report.stats.file_reads > 0 ? 1 : 0;
    CHECK(report.stats.rows_read > 0);
    CHECK(rig.engine->exchange_tables(place).ok());
  }
  CHECK(on_nvme > 0);
}

TEST_CASE("engine arms: rows that differ by placement are an error") {
  int opened = 0;
  const Rig rig([&opened](EngineOptions* o) {
    o->wrap_table_for_test = [&opened](std::unique_ptr<memory::RowStore> store) {
      if (opened++ < 2) return store;
      return std::unique_ptr<memory::RowStore>(std::make_unique<WrongStore>(std::move(store)));
    };
  });
  const Result<PointResult> run =
      run_experiment(rig.arms->entries(), decode(rig.model.config.vocab_size), {});
  CHECK(run.status().code() == memory::Code::kDataLoss);
  CHECK_THAT(run.status().message(), Catch::StartsWith("arm V answers unlike arm D: request "));
}

TEST_CASE("engine arms: what cannot be served is an error of the arm") {
  const Rig rig([](EngineOptions*) {});
  Workload workload = decode(rig.model.config.vocab_size);
  workload.output = {500, 500};
  const Result<PointResult> run = run_experiment(rig.arms->entries(), workload, {});
  CHECK_THAT(
      run.status().message(), Catch::Contains("arm ") && Catch::Contains("tokens, expected 500"));
  workload.input = {500, 500};
  const Result<PointResult> longer = run_experiment(rig.arms->entries(), workload, {});
  CHECK(longer.status().code() == memory::Code::kInvalidArgument);
  const auto unknown = EngineArms::make(rig.engine.get(), {}, {"N", "X"});
  CHECK(unknown.status().code() == memory::Code::kInvalidArgument);
  CHECK_THAT(unknown.status().message(), Catch::Contains("arm X: expected some of N,D,S,Z,H,V"));
  const auto absent = EngineArms::make(rig.engine.get(), {}, {"N", "H"});
  CHECK_THAT(absent.status().message(), Catch::Contains("arm H needs tables in hbm"));
}

TEST_CASE("engine arms: arrivals follow the plan") {
  const Rig rig([](EngineOptions*) {});
  Workload workload = decode(rig.model.config.vocab_size);
  workload.batch = 10;
  workload.request_rate = 200;
  const std::vector<PlannedRequest> plan = plan_requests(workload, 4);
  std::vector<std::vector<int32_t>> tokens;
  const Result<std::vector<RequestRecord>> records = serve_plan(*rig.engine, plan, &tokens);
  REQUIRE(records.ok());
  REQUIRE(tokens.size() == 10);
  for (size_t i = 0; i < 10; ++i) {
    const RequestRecord& r = records.value()[i];
    CHECK(r.sent_s >= plan[i].at_s);
    CHECK(r.messages.front().at_s > r.sent_s);
    CHECK(r.output_tokens == 12);
    CHECK(tokens[i].size() == 12);
  }
}

TEST_CASE("sized model: tables of about the size asked for, and the files of the same rows") {
  const tests::TempDirectory directory;
  const std::string source = tests::checkpoint_directory("tiny-engram");
  const Result<SizedModel> own = make_sized_model(source, 0, RowCodec::kBf16, directory.path());
  REQUIRE(own.ok());
  for (const int64_t wanted : {int64_t{200000}, int64_t{10000000}}) {
    const Result<SizedModel> model =
        make_sized_model(source, wanted, RowCodec::kBf16, directory.path());
    REQUIRE(model.ok());
    CHECK(
        static_cast<double>(model.value().table_parameters) ==
        Approx(static_cast<double>(wanted)).epsilon(0.1));
    CHECK(model.value().table_bytes >= 2 * model.value().table_parameters);
    CHECK(model.value().parameters == own.value().parameters);
    CHECK(model.value().config.hidden_size == own.value().config.hidden_size);
  }
  const Result<SizedModel> dense = make_sized_model(
      tests::checkpoint_directory("tiny-dense"), 0, RowCodec::kBf16, directory.path());
  CHECK(dense.status().code() == memory::Code::kInvalidArgument);
  CHECK_FALSE(make_sized_model(directory.file("none"), 0, RowCodec::kBf16, directory.path()).ok());
  const Result<SizedModel> fp8 =
      make_sized_model(source, 200000, RowCodec::kF8Tensor, directory.path());
  REQUIRE(fp8.ok());
  CHECK(fp8.value().table_bytes >= fp8.value().table_parameters);
  CHECK(fp8.value().table_bytes < fp8.value().table_parameters * 11 / 10);

  std::string path;
  {
    Result<WorkDirectory> work = WorkDirectory::make(directory.path());
    REQUIRE(work.ok());
    path = work.value().path();
    CHECK(std::filesystem::exists(path));
    const std::atomic<bool> stop = true;
    CHECK(
        write_table_files(own.value().config, RowCodec::kBf16, path, 1, &stop, {}).code() ==
        memory::Code::kCancelled);
  }
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK_FALSE(WorkDirectory::make(directory.file("none")).ok());
}

}  // namespace engram::tools::bench
