#include "tools/bench/overhead_run.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "engine/model/model.h"
#include "engine/run/backend.h"
#include "engine/run/engine.h"
#include "memory/base/byte_text.h"
#include "memory/device/device_cpu.h"
#include "memory/device/system_limits.h"
#include "tools/bench/contention.h"
#include "tools/bench/engine_arms.h"
#include "tools/bench/machine_facts.h"
#include "tools/bench/overhead_options.h"
#include "tools/bench/peaks.h"
#include "tools/bench/simulated_arms.h"
#include "tools/bench/sized_model.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kPeakBytes = kGiB / 2;
constexpr int64_t kContentionBytes = kGiB / 4;
// What an engine takes besides weights, cache and tables.
constexpr int64_t kOtherBytes = kGiB / 2;
constexpr int64_t kPaperIds = 10000;

std::string size_text(int64_t parameters) {
  if (parameters == 0) return "own tables";
  char text[32];
  std::snprintf(text, sizeof text, "%.3gB parameters", 1e-9 * static_cast<double>(parameters));
  return text;
}

std::string describe(const Workload& w) {
  std::string text = w.name + ", batch " + std::to_string(w.batch);
  if (w.name == "w4") text = w.name + ", " + std::to_string(w.input.high) + " tokens";
  return text;
}

// As --kv-cache-dtype has it.
const char* flag_name(memory::DType cache) {
  if (cache == memory::DType::kF8E4m3) return "fp8";
  return cache == memory::DType::kBf16 ? "bfloat16" : "float32";
}

class OverheadRun {
 public:
  OverheadRun(
      const OverheadOptions& options,
      OverheadReport* report,
      const std::function<void(const OverheadProgress&)>& on_progress,
      const std::function<void(const ReportPoint&)>& on_point)
      : options_(options),
        report_(*report),
        on_progress_(on_progress),
        on_point_(on_point),
        threads_(options.threads > 0 ? options.threads : memory::usable_cores()) {}

  Status run() {
    ENGRAM_RETURN_IF_ERROR(check_options(options_));
    report_.options = options_.experiment;
    report_.threads = threads_;
    report_.workloads = options_.workloads;
    report_.activations = options_.dtype;
    if (!options_.fake) {
      const engine::EngineOptions engine = common_engine_options(options_);
      codec_ = engine::dummy_table_codec(engine).value();
      cache_ = engine::kv_cache_dtype(engine).value();
      report_.cache = flag_name(cache_);
      report_.table_codec = memory::row_codec_name(codec_);
    }
    report_.scaled_down = scaled_down(options_);
    report_.machine = read_machine_facts("");
    if (options_.fake) return run_fake();
    ENGRAM_RETURN_IF_ERROR(prepare());
    ENGRAM_RETURN_IF_ERROR(check_room());
    tell("memory peaks", 0);
    const Result<MemoryPeaks> peaks = measure_memory_peaks(threads_, kPeakBytes);
    if (!peaks.ok()) return peaks.status();
    report_.peaks.read_gbps = peaks.value().read_gbps;
    report_.peaks.copy_gbps = peaks.value().copy_gbps;
    if (options_.device == "cuda") {
      Result<engine::Backend> backend = engine::open_backend(options_.device, threads_);
      if (!backend.ok()) return backend.status();
      const Result<double> link = measure_link(*backend.value().device, kPeakBytes);
      if (!link.ok()) return link.status();
      report_.peaks.link_gbps = link.value();
    }
    report_.sizes_in_turns = !options_.sizes_apart && fit_together();
    if (report_.sizes_in_turns) {
      ENGRAM_RETURN_IF_ERROR(run_models(models_));
    } else {
      for (size_t i = 0; i < models_.size() && !stopped(); ++i) {
        ENGRAM_RETURN_IF_ERROR(run_models(std::span(models_).subspan(i, 1)));
      }
    }
    report_.interrupted = stopped();
    return {};
  }

 private:
  bool stopped() const {
    const std::atomic<bool>* stop = options_.experiment.stop;
    return stop != nullptr && stop->load();
  }
  bool wants(const char* arm) const {
    return std::ranges::find(options_.arms, arm) != options_.arms.end();
  }
  // `share` of the points that are being measured.
  void tell(const std::string& what, double share) const {
    const size_t turns = options_.contention ? 2 : 1;
    const double points = static_cast<double>(
        std::max<size_t>(1, workloads_.size() * options_.table_parameters.size() * turns));
    if (on_progress_) {
      const double now = share * static_cast<double>(measuring_.points);
      on_progress_({what, (static_cast<double>(report_.points.size()) + now) / points});
    }
  }

  // Models of all sizes, the workloads, and what the report says about them.
  Status prepare() {
    std::error_code error;
    const std::string parent = options_.work_directory.empty()
                                   ? std::filesystem::temp_directory_path(error).string()
                                   : options_.work_directory;
    Result<WorkDirectory> made = WorkDirectory::make(parent);
    if (!made.ok()) return made.status();
    work_ = std::move(made).value();
    for (const int64_t parameters : options_.table_parameters) {
      const std::string to = work_->path() + "/size-" + std::to_string(models_.size());
      std::filesystem::create_directory(to, error);  // what fails is found when it is written to
      Result<SizedModel> model = make_sized_model(options_.model, parameters, codec_, to);
      if (!model.ok()) return model.status();
      models_.push_back(std::move(model).value());
    }
    std::shared_ptr<const std::vector<int32_t>> text;
    if (std::ranges::find(options_.workloads, "w2") != options_.workloads.end()) {
      Result<std::shared_ptr<const std::vector<int32_t>>> ids = read_text_ids(options_);
      if (!ids.ok()) return ids.status();
      text = std::move(ids).value();
    }
    const engine::ModelConfig& config = models_.front().config;
    workloads_ = make_workloads(options_, text);
    for (Workload& w : workloads_) w.id_limit = std::min(kPaperIds, config.vocab_size);
    ModelFacts& facts = report_.model;
    facts.path = options_.model;
    facts.name = std::filesystem::path(options_.model).filename().string();
    facts.parameters = models_.front().parameters;
    facts.dtype = "bfloat16";
    facts.layers = config.num_hidden_layers;
    facts.engram_layers = config.engram.layer_ids;
    report_.weights = "made up in the shape of config.json, rows too";
    return {};
  }

  int64_t most_tokens() const {
    int64_t most = 0;
    for (const Workload& w : workloads_) most = std::max(most, w.input.high + w.output.high);
    return most;
  }
  int64_t most_sequences() const {
    int64_t most = 1;
    for (const Workload& w : workloads_) most = std::max<int64_t>(most, w.batch);
    return std::min(most, options_.max_num_seqs);
  }

  // The engine's settings that are the same for all sizes; its cache holds all that run together.
  engine::EngineOptions engine_options(const SizedModel& model) const {
    engine::EngineOptions o = common_engine_options(options_);
    o.model = model.directory;
    if (wants("H")) o.tables.placement = "hbm";
    o.threads = threads_;
    o.max_model_len = most_tokens();
    o.max_num_seqs = most_sequences();
    o.max_num_batched_tokens = std::max(options_.max_num_batched_tokens, o.max_num_seqs);
    o.max_queued_requests = 1 << 20;
    o.enable_prefix_caching = false;
    const memory::DType act =
        options_.dtype == "bfloat16" ? memory::DType::kBf16 : memory::DType::kF32;
    const int64_t pages = o.max_num_seqs * (o.max_model_len / o.block_size + 2);
    o.kv_cache_bytes =
        pages * engine::kv_shape(model.config, o.block_size, act, cache_).page_bytes();
    return o;
  }

  // What a model of one size takes.
  struct Room {
    int64_t tables = 0;
    int64_t weights = 0;
    int64_t cache = 0;
    int64_t other = 0;
    int64_t files = 0;  // on disk
    int64_t memory() const { return tables + weights + cache + other; }
  };
  Room room_of(const SizedModel& model) const {
    Room room;
    room.tables = model.table_bytes;
    room.other = kOtherBytes + (options_.contention ? kContentionBytes : 0);
    // Weights and cache of a GPU are its own memory's business.
    if (options_.device == "cpu") {
      room.weights = 2 * model.parameters * 11 / 10;  // bf16, padded to panels
      room.cache = engine_options(model).kv_cache_bytes;
    }
    if (wants("V")) room.files = model.table_bytes + model.table_bytes / 16;
    return room;
  }
  int64_t free_disk() const {
    std::error_code error;
    return static_cast<int64_t>(std::filesystem::space(work_->path(), error).available);
  }

  Status check_room() const {
    const int64_t available = memory::available_bytes("");
    const int64_t disk = free_disk();
    for (size_t i = 0; i < models_.size(); ++i) {
      const Room room = room_of(models_[i]);
      const std::string size = size_text(options_.table_parameters[i]);
      if (room.memory() > available) {
        return memory::resource_exhausted(
            size + ": " + memory::format_bytes(room.memory()) + " of memory are needed (tables " +
            memory::format_bytes(room.tables) + ", weights " + memory::format_bytes(room.weights) +
            ", cache " + memory::format_bytes(room.cache) + ", other " +
            memory::format_bytes(room.other) + "), " + memory::format_bytes(available) +
            " are there");
      }
      if (room.files > disk) {
        return memory::resource_exhausted(
            size + ": table files of " + memory::format_bytes(room.files) + " do not fit into " +
            work_->path() + ", which has " + memory::format_bytes(disk) +
            " left (--work-dir, or --arms without V)");
      }
    }
    return {};
  }

  // Whether engines of all sizes can be there at once, with a tenth to spare. Of a GPU's memory
  // nobody knows before they are started.
  bool fit_together() const {
    int64_t bytes = 0;
    int64_t files = 0;
    for (const SizedModel& model : models_) {
      bytes += room_of(model).memory();
      files += room_of(model).files;
    }
    return models_.size() > 1 && options_.device == "cpu" &&
           bytes + bytes / 10 <= memory::available_bytes("") && files <= free_disk();
  }

  // What there is of one size while it is measured.
  struct Sized {
    std::optional<WorkDirectory> files;
    std::unique_ptr<engine::Engine> engine;
    std::unique_ptr<EngineArms> arms;
    std::string codec;
  };

  // Without arms when it was stopped meanwhile.
  Status start(const SizedModel& model, Sized* sized) {
    const std::string size = size_text(model.table_parameters);
    tell("starting the engine, " + size, 0);
    Result<std::unique_ptr<engine::Engine>> made = engine::make_engine(engine_options(model));
    if (!made.ok()) return made.status();
    sized->engine = std::move(made).value();
    engine::Engine& engine = *sized->engine;
    report_.machine.device = engine.info().device;
    describe_tables(engine.tables(), &report_.machine);
    TablePlaces places;
    // A device's memory is given out when the engine starts, so those tables are its own.
    if (wants("H")) {
      places = {"hbm", {"host"}};
      memory::TableSetOptions host;
      host.arena.pin = memory::PinPages::kTry;
      ENGRAM_RETURN_IF_ERROR(engine.open_idle_tables(host).status());
    }
    if (wants("V")) {
      ENGRAM_RETURN_IF_ERROR(open_files(model, &engine, &sized->files));
      places.idle.push_back("nvme");
    }
    if (stopped()) return {};
    ArmOptions of_arms;
    of_arms.stop = options_.experiment.stop;
    of_arms.on_share = [&](double share) { tell(measuring_.what, measuring_.share(share)); };
    Result<std::unique_ptr<EngineArms>> arms =
        EngineArms::make(&engine, places, options_.arms, of_arms);
    if (!arms.ok()) return arms.status();
    sized->arms = std::move(arms).value();
    const std::vector<memory::TableReport> tables = engine.tables();
    if (!tables.empty()) sized->codec = tables.front().codec;
    return {};
  }

  // Each workload on all these models in turns.
  Status run_models(std::span<const SizedModel> models) {
    std::vector<Sized> engines(models.size());
    for (size_t i = 0; i < models.size(); ++i) {
      ENGRAM_RETURN_IF_ERROR(start(models[i], &engines[i]));
      if (engines[i].arms == nullptr) return {};
    }
    const std::string sizes =
        models.size() == 1 ? size_text(models[0].table_parameters) : "all sizes in turns";
    for (const Workload& w : workloads_) {
      for (int turn = 0; turn < (options_.contention ? 2 : 1); ++turn) {
        if (stopped()) return {};
        std::vector<Measured> measured(models.size());
        for (size_t i = 0; i < models.size(); ++i) {
          ReportPoint& point = measured[i].point;
          point.table_parameters = models[i].table_parameters;
          point.table_bytes = models[i].table_bytes;
          point.table_codec = engines[i].codec;
          point.contention = turn == 1;
          point.device_is_host = options_.device == "cpu";
          measured[i].arms = engines[i].arms->entries();
          measured[i].engine = engines[i].engine.get();
        }
        ENGRAM_RETURN_IF_ERROR(run_points(w, describe(w) + ", " + sizes, &measured));
      }
    }
    return {};
  }

  // The tables as files, opened by the engine beside those in memory.
  Status open_files(
      const SizedModel& model, engine::Engine* engine, std::optional<WorkDirectory>* files) {
    Result<WorkDirectory> directory = WorkDirectory::make(work_->path());
    if (!directory.ok()) return directory.status();
    *files = std::move(directory).value();
    const Status written = write_table_files(
        model.config, codec_, (*files)->path(), threads_, options_.experiment.stop,
        [&](int64_t done, int64_t total) {
          tell(
              "writing table files, " + memory::format_bytes(done) + " of " +
                  memory::format_bytes(total),
              0);
        });
    if (written.code() == memory::Code::kCancelled && stopped()) return {};
    ENGRAM_RETURN_IF_ERROR(written);
    memory::TableSetOptions nvme;
    nvme.directory = (*files)->path();
    nvme.placement = "nvme";
    return engine->open_idle_tables(nvme).status();
  }

  struct Measured {
    ReportPoint point;
    std::vector<ArmEntry> arms;
    engine::Engine* engine = nullptr;  // whose tables they read; null: simulated
  };

  // All of them in turns; what they found goes into the report.
  Status run_points(
      const Workload& workload, const std::string& what, std::vector<Measured>* measured) {
    std::vector<ArmGroup> groups;
    for (Measured& m : *measured) {
      groups.push_back({.arms = m.arms});
      if (m.engine == nullptr || !options_.touch_tables) continue;
      groups.back().before_round = [&m] {
        const Result<engine::TableTouch> touch = m.engine->touch_tables();
        if (touch.ok()) m.point.pages.before_rounds_s.push_back(touch.value().seconds);
        return touch.status();
      };
    }
    ExperimentOptions experiment = options_.experiment;
    const size_t turns = groups.size() * (groups.front().arms.size() + 1);
    const int rounds = experiment.rounds + experiment.warm_ups;
    measuring_ = {.what = what, .points = groups.size(), .total = rounds * static_cast<int>(turns)};
    experiment.on_measured = [&](int done, int total) {
      measuring_.done = done;
      measuring_.total = total;
      tell(what, measuring_.share(0));
    };
    std::unique_ptr<Contention> contention;
    if (measured->front().point.contention && !options_.fake) {
      Result<std::unique_ptr<Contention>> started = Contention::start(kContentionBytes);
      if (!started.ok()) return started.status();
      contention = std::move(started).value();
    }
    Result<std::vector<PointResult>> results = run_experiments(groups, workload, experiment);
    if (!results.ok()) {
      return {results.status().code(), what + ": " + results.status().message()};
    }
    const double contention_gbps = contention != nullptr ? contention->gbps() : 0;
    for (size_t i = 0; i < measured->size(); ++i) {
      Measured& m = (*measured)[i];
      m.point.result = std::move(results.value()[i]);
      if (m.point.result.rounds() == 0) continue;
      m.point.contention_gbps = contention_gbps;
      if (m.engine != nullptr) ENGRAM_RETURN_IF_ERROR(read_pages(m.engine, &m.point.pages));
      report_.points.push_back(std::move(m.point));
      if (on_point_) on_point_(report_.points.back());
    }
    return {};
  }

  static Status read_pages(engine::Engine* engine, TablePages* pages) {
    const Result<engine::TableTouch> after = engine->touch_tables();
    if (!after.ok()) return after.status();
    const Result<engine::TableTouch> again = engine->touch_tables();
    if (!again.ok()) return again.status();
    pages->count = after.value().pages;
    pages->after_rounds_s = after.value().seconds;
    pages->again_s = again.value().seconds;
    return {};
  }

  Status run_fake() {
    workloads_ = make_workloads(options_, nullptr);
    report_.machine.device = "simulated";
    report_.model.name = "simulated";
    report_.weights = "none: arms are simulated, in virtual time";
    std::vector<std::unique_ptr<Arm>> arms;
    std::vector<ArmEntry> entries;
    for (const std::string& key : options_.arms) {
      const bool answers_alike = key != "N" && key != "Z";
      SimulatedArm arm;
      arm.step_ms = options_.fake_step_ms;
      arm.own_noise = options_.fake_own_noise;
      arm.stall_probability = options_.fake_stall_probability;
      arm.max_num_seqs = options_.max_num_seqs;
      arm.seed = options_.experiment.seed;
      arm.arm = arms.size();
      arm.model = answers_alike ? 1 : 2 + arms.size();
      // Half of the overhead is the module's, a quarter is waited for.
      const double share = key == "N" ? 0 : key == "Z" ? 0.5 : 1;
      arm.overhead_percent = share * options_.fake_overhead_percent;
      arm.wait_percent = answers_alike ? options_.fake_overhead_percent / 4 : 0;
      arms.push_back(make_simulated_arm(arm));
      entries.push_back({key, "simulated", answers_alike, arms.back().get()});
    }
    for (const Workload& w : workloads_) {
      if (stopped()) break;
      std::vector<Measured> measured(1);
      measured[0].point.device_is_host = true;
      measured[0].arms = entries;
      ENGRAM_RETURN_IF_ERROR(run_points(w, describe(w), &measured));
    }
    report_.interrupted = stopped();
    return {};
  }

  // The points that are being measured.
  struct Measuring {
    std::string what;
    size_t points = 1;
    int done = 0;  // measurements
    int total = 1;
    double share(double of_next) const { return (done + std::min(of_next, 0.99)) / total; }
  };

  const OverheadOptions& options_;
  OverheadReport& report_;
  const std::function<void(const OverheadProgress&)>& on_progress_;
  const std::function<void(const ReportPoint&)>& on_point_;
  const int threads_;
  memory::RowCodec codec_ = memory::RowCodec::kBf16;
  memory::DType cache_ = memory::DType::kF32;
  std::optional<WorkDirectory> work_;
  std::vector<SizedModel> models_;  // one per entry of table_parameters
  std::vector<Workload> workloads_;
  Measuring measuring_;
};

}  // namespace

Status run_overhead(
    const OverheadOptions& options,
    OverheadReport* report,
    const std::function<void(const OverheadProgress&)>& on_progress,
    const std::function<void(const ReportPoint&)>& on_point) {
  return OverheadRun(options, report, on_progress, on_point).run();
}

}  // namespace engram::tools::bench
