#include "tools/bench/overhead_run.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "engine/model/model.h"
#include "engine/run/backend.h"
#include "engine/run/engine.h"
#include "memory/base/byte_text.h"
#include "memory/device/device_cpu.h"
#include "memory/device/system_limits.h"
#include "memory/io/file.h"
#include "tools/bench/contention.h"
#include "tools/bench/engine_arms.h"
#include "tools/bench/machine_facts.h"
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
constexpr int64_t kMostText = int64_t{64} << 20;

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

Workload drawn_lengths(const OverheadOptions& o, const char* name) {
  Workload w;
  w.name = name;
  w.batch = o.num_seqs;
  w.input = o.input;
  w.output = o.output;
  return w;
}

// `text` holds the ids of w2's text.
std::vector<Workload> make_workloads(
    const OverheadOptions& o, const std::shared_ptr<const std::vector<int32_t>>& text) {
  std::vector<Workload> list;
  for (const std::string& name : o.workloads) {
    if (name == "w1") list.push_back(drawn_lengths(o, "w1"));
    if (name == "w2") {
      list.push_back(drawn_lengths(o, "w2"));
      list.back().text = text;
    }
    for (size_t i = 0; name == "w3" && i < o.batches.size(); ++i) {
      Workload& w = list.emplace_back();
      w.name = "w3";
      w.batch = o.batches[i];
      w.input = {o.input_tokens, o.input_tokens};
      w.output = {o.output_tokens, o.output_tokens};
      w.decode_only = true;
      w.metric = "step_ms";
    }
    for (size_t i = 0; name == "w4" && i < o.prompt_tokens.size(); ++i) {
      Workload& w = list.emplace_back();
      w.name = "w4";
      w.input = {o.prompt_tokens[i], o.prompt_tokens[i]};
      w.metric = "ttft_ms";
    }
    if (name == "w5") {
      list.push_back(drawn_lengths(o, "w5"));
      list.back().request_rate = o.request_rate;
      list.back().metric = "tpot_ms";
    }
  }
  return list;
}

// What is asked of the engine whatever the size.
engine::EngineOptions common_engine_options(const OverheadOptions& o) {
  engine::EngineOptions engine;
  engine.load_format = "dummy";
  engine.device = o.device;
  engine.dtype = o.dtype;
  engine.kv_cache_dtype = o.kv_cache_dtype;
  engine.dummy_table_codec = o.table_codec;
  return engine;
}

// As --kv-cache-dtype has it.
const char* flag_name(memory::DType cache) {
  if (cache == memory::DType::kF8E4m3) return "fp8";
  return cache == memory::DType::kBf16 ? "bfloat16" : "float32";
}

Status check_engine_types(const OverheadOptions& o) {
  const engine::EngineOptions engine = common_engine_options(o);
  ENGRAM_RETURN_IF_ERROR(engine::kv_cache_dtype(engine).status());
  ENGRAM_RETURN_IF_ERROR(engine::dummy_table_codec(engine).status());
  const char* flag = !o.table_codec.empty()       ? "--table-codec"
                     : o.kv_cache_dtype != "auto" ? "--kv-cache-dtype"
                                                  : nullptr;
  if (!o.fake || flag == nullptr) return {};
  return memory::invalid_argument(
      std::string(flag) + ": simulated arms (--engine fake) have neither tables nor a cache");
}

Status check_options(const OverheadOptions& o) {
  ENGRAM_RETURN_IF_ERROR(check_engine_types(o));
  const auto has = [&](const char* name) {
    return std::ranges::find(o.workloads, name) != o.workloads.end();
  };
  const std::set<std::string> known = {"w1", "w2", "w3", "w4", "w5"};
  for (const std::string& name : o.workloads) {
    if (known.contains(name)) continue;
    return memory::invalid_argument("--workload " + name + ": expected some of w1,w2,w3,w4,w5");
  }
  if (o.workloads.empty()) return memory::invalid_argument("--workload: none given");
  if (std::set<std::string>(o.arms.begin(), o.arms.end()).size() != o.arms.size()) {
    return memory::invalid_argument("--arms: one is given twice");
  }
  const std::set<std::string> arms = {"N", "D", "S", "Z", "H", "V"};
  for (const std::string& arm : o.arms) {
    if (arms.contains(arm) && (arm != "H" || o.device == "cuda")) continue;
    return memory::invalid_argument(
        "--arms " + arm + ": expected some of N,D,S,Z,H,V" +
        (arm == "H" ? " (on the CPU H is D)" : ""));
  }
  if (o.arms.empty()) return memory::invalid_argument("--arms: none given");
  if (o.experiment.rounds < kFewestRounds) {
    return memory::invalid_argument(
        "--rounds " + std::to_string(o.experiment.rounds) + ": at least " +
        std::to_string(kFewestRounds) + " are needed for an interval");
  }
  if (has("w2") && o.text.empty() && !o.fake) {
    return memory::invalid_argument("--workload w2 needs --text FILE");
  }
  if (has("w5") && o.request_rate <= 0) {
    return memory::invalid_argument("--workload w5 needs --request-rate");
  }
  for (const Workload& w : make_workloads(o, nullptr)) {
    if (w.batch >= 1 && w.input.low >= 1 && w.output.low >= 1 && w.input.low <= w.input.high &&
        w.output.low <= w.output.high) {
      continue;
    }
    return memory::invalid_argument(
        "workload " + w.name + ": batches and lengths are at least 1, and ranges ascend");
  }
  return {};
}

// Why the lengths are not the paper's.
std::string scaled_down(const OverheadOptions& o) {
  const bool drawn =
      std::ranges::any_of(o.workloads, [](const std::string& w) { return w == "w1" || w == "w2"; });
  const bool full = o.num_seqs == 512 && o.input.low == 100 && o.input.high == 1024 &&
                    o.output.low == 100 && o.output.high == 1024;
  if (!drawn || full) return {};
  return "w1 and w2 by flag: " + std::to_string(o.num_seqs) + " sequences of " +
         std::to_string(o.input.low) + " to " + std::to_string(o.input.high) + " tokens in and " +
         std::to_string(o.output.low) + " to " + std::to_string(o.output.high) +
         " out, instead of 512 with 100 to 1024 and 100 to 1024";
}

Result<std::shared_ptr<const std::vector<int32_t>>> read_text_ids(const OverheadOptions& o) {
  Result<std::unique_ptr<engine::Tokenizer>> tokenizer = engine::load_tokenizer(o.model);
  if (!tokenizer.ok()) return tokenizer.status();
  const Result<std::string> text = memory::read_text_file(o.text, kMostText);
  if (!text.ok()) return text.status();
  auto ids = std::make_shared<std::vector<int32_t>>(
      tokenizer.value()->encode(text.value(), /*add_special=*/false));
  if (static_cast<int64_t>(ids->size()) > o.input.high) {
    return std::shared_ptr<const std::vector<int32_t>>(std::move(ids));
  }
  return memory::invalid_argument(
      "--text " + o.text + ": " + std::to_string(ids->size()) +
      " tokens, expected more than the longest prompt, " + std::to_string(o.input.high));
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
    for (const SizedModel& model : models_) {
      if (stopped()) break;
      ENGRAM_RETURN_IF_ERROR(run_size(model));
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
  // `share` of the point that is being measured.
  void tell(const std::string& what, double share) const {
    const size_t turns = options_.contention ? 2 : 1;
    const double points = static_cast<double>(
        std::max<size_t>(1, workloads_.size() * options_.table_parameters.size() * turns));
    if (on_progress_) {
      on_progress_({what, (static_cast<double>(report_.points.size()) + share) / points});
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

  Status check_room() const {
    const int64_t available = memory::available_bytes("");
    std::error_code error;
    const std::filesystem::space_info disk = std::filesystem::space(work_->path(), error);
    for (size_t i = 0; i < models_.size(); ++i) {
      const SizedModel& model = models_[i];
      const engine::EngineOptions o = engine_options(model);
      const int64_t weights = 2 * model.parameters * 11 / 10;  // bf16, padded to panels
      const int64_t contention = options_.contention ? kContentionBytes : 0;
      // Weights and cache of a GPU are its own memory's business.
      const int64_t computing = options_.device == "cpu" ? weights + o.kv_cache_bytes : 0;
      const int64_t wanted = model.table_bytes + computing + kOtherBytes + contention;
      const std::string size = size_text(options_.table_parameters[i]);
      if (wanted > available) {
        return memory::resource_exhausted(
            size + ": " + memory::format_bytes(wanted) + " of memory are needed (tables " +
            memory::format_bytes(model.table_bytes) + ", weights " + memory::format_bytes(weights) +
            ", cache " + memory::format_bytes(o.kv_cache_bytes) + ", other " +
            memory::format_bytes(kOtherBytes + contention) + "), " +
            memory::format_bytes(available) + " are there");
      }
      const int64_t file_bytes = wants("V") ? model.table_bytes + model.table_bytes / 16 : 0;
      if (file_bytes > static_cast<int64_t>(disk.available)) {
        return memory::resource_exhausted(
            size + ": table files of " + memory::format_bytes(file_bytes) + " do not fit into " +
            work_->path() + ", which has " +
            memory::format_bytes(static_cast<int64_t>(disk.available)) +
            " left (--work-dir, or --arms without V)");
      }
    }
    return {};
  }

  Status run_size(const SizedModel& model) {
    const std::string size = size_text(model.table_parameters);
    tell("starting the engine, " + size, 0);
    Result<std::unique_ptr<engine::Engine>> made = engine::make_engine(engine_options(model));
    if (!made.ok()) return made.status();
    engine::Engine& engine = *made.value();
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
    std::optional<WorkDirectory> files;
    if (wants("V")) {
      ENGRAM_RETURN_IF_ERROR(open_files(model, &engine, &files));
      places.idle.push_back("nvme");
    }
    if (stopped()) return {};
    ArmOptions of_arms;
    of_arms.stop = options_.experiment.stop;
    of_arms.on_share = [&](double share) { tell(point_.what, point_.share(share)); };
    Result<std::unique_ptr<EngineArms>> arms =
        EngineArms::make(&engine, places, options_.arms, of_arms);
    if (!arms.ok()) return arms.status();
    const std::vector<memory::TableReport> tables = engine.tables();
    const std::string codec = tables.empty() ? "" : tables.front().codec;
    for (const Workload& w : workloads_) {
      for (int turn = 0; turn < (options_.contention ? 2 : 1); ++turn) {
        if (stopped()) return {};
        ReportPoint point;
        point.table_parameters = model.table_parameters;
        point.table_bytes = model.table_bytes;
        point.table_codec = codec;
        point.contention = turn == 1;
        point.device_is_host = options_.device == "cpu";
        ENGRAM_RETURN_IF_ERROR(
            run_point(arms.value()->entries(), w, describe(w) + ", " + size, point));
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

  Status run_point(
      const std::vector<ArmEntry>& arms,
      const Workload& workload,
      const std::string& what,
      ReportPoint point) {
    ExperimentOptions experiment = options_.experiment;
    const int rounds = experiment.rounds + experiment.warm_ups;
    point_ = {what, 0, rounds * static_cast<int>(arms.size() + 1)};
    experiment.on_measured = [&](int done, int total) {
      point_ = {what, done, total};
      tell(what, point_.share(0));
    };
    std::unique_ptr<Contention> contention;
    if (point.contention && !options_.fake) {
      Result<std::unique_ptr<Contention>> started = Contention::start(kContentionBytes);
      if (!started.ok()) return started.status();
      contention = std::move(started).value();
    }
    Result<PointResult> result = run_experiment(arms, workload, experiment);
    if (!result.ok()) {
      return {result.status().code(), what + ": " + result.status().message()};
    }
    if (contention != nullptr) point.contention_gbps = contention->gbps();
    point.result = std::move(result).value();
    if (point.result.rounds() == 0) return {};
    report_.points.push_back(std::move(point));
    if (on_point_) on_point_(report_.points.back());
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
      ReportPoint point;
      point.device_is_host = true;
      ENGRAM_RETURN_IF_ERROR(run_point(entries, w, describe(w), std::move(point)));
    }
    report_.interrupted = stopped();
    return {};
  }

  // The point that is being measured.
  struct Measuring {
    std::string what;
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
  Measuring point_;
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
