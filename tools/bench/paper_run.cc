#include "tools/bench/paper_run.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <utility>

#include "engine/run/backend.h"
#include "engine/run/engine.h"
#include "memory/base/byte_text.h"
#include "memory/device/system_limits.h"
#include "memory/io/file.h"
#include "tools/bench/sized_model.h"

namespace engram::tools::bench {
namespace {

using engine::ModelConfig;
using memory::format_bytes;
using memory::Result;
using memory::Status;

constexpr int64_t kMostConfig = int64_t{1} << 20;
constexpr double kLeastScale = 0.005;
constexpr double kSpare = 0.9;  // of the memory: what is proposed leaves some

struct Source {
  std::string directory;
  std::string name;
  std::string json;
  ModelConfig whole;
};

// The options at one scale.
struct Scaled {
  PaperScale model;
  int64_t table_parameters = 0;
  int num_seqs = 0;
};

Scaled at_scale(const PaperOptions& o, double scale) {
  Scaled s;
  s.model.layers = o.scale_layers > 0 ? o.scale_layers : scale;
  s.model.width = o.scale_width > 0 ? o.scale_width : scale;
  s.table_parameters = o.table_parameters > 0
                           ? o.table_parameters
                           : std::llround(scale * static_cast<double>(kPaperTableParameters));
  s.num_seqs = o.num_seqs > 0 ? o.num_seqs
                              : std::max(1, static_cast<int>(std::lround(scale * kPaperSequences)));
  return s;
}

std::string short_text(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

Result<Source> read_source(const std::string& directory) {
  Source source;
  source.directory = directory;
  source.name = std::filesystem::path(directory).filename().string();
  if (source.name.empty()) {
    source.name = std::filesystem::path(directory).parent_path().filename().string();
  }
  const std::string file = directory + "/config.json";
  Result<std::string> json = memory::read_text_file(file, kMostConfig);
  if (!json.ok()) return json.status();
  source.json = std::move(json).value();
  Result<ModelConfig> whole = engine::parse_config(source.json, file);
  if (!whole.ok()) return whole.status();
  source.whole = std::move(whole).value();
  return source;
}

Status check_options(const PaperOptions& o) {
  const auto in_range = [](double v) { return v > 0 && v <= 1; };
  if (!in_range(o.scale) || (o.scale_layers != 0 && !in_range(o.scale_layers)) ||
      (o.scale_width != 0 && !in_range(o.scale_width))) {
    return memory::invalid_argument("--scale, --scale-layers, --scale-width: above 0, at most 1");
  }
  if (o.models.empty()) return memory::invalid_argument("--model: none given");
  for (const char* needed : {"N", "D"}) {
    if (o.arms.empty() || std::ranges::find(o.arms, needed) != o.arms.end()) continue;
    return memory::invalid_argument(
        std::string("--arms: ") + needed + " is missing, the paper's rows are N and D");
  }
  return {};
}

class PaperRun {
 public:
  PaperRun(
      const PaperOptions& options,
      const PaperRoom& room,
      PaperReport* report,
      const std::function<void(const OverheadProgress&)>& on_progress,
      const std::function<void()>& on_model)
      : options_(options),
        room_(room),
        report_(*report),
        on_progress_(on_progress),
        on_model_(on_model) {}

  Status run() {
    ENGRAM_RETURN_IF_ERROR(check_options(options_));
    report_.run.kind = "paper";
    report_.run.options = options_.experiment;
    for (const std::string& directory : options_.models) {
      Result<Source> source = read_source(directory);
      if (!source.ok()) return source.status();
      sources_.push_back(std::move(source).value());
    }
    ENGRAM_RETURN_IF_ERROR(read_types());
    scaled_ = at_scale(options_, options_.scale);
    ENGRAM_RETURN_IF_ERROR(scale_models());
    ENGRAM_RETURN_IF_ERROR(check_room());
    choose_arms();
    for (size_t i = 0; i < sources_.size() && !report_.run.interrupted; ++i) {
      ENGRAM_RETURN_IF_ERROR(run_model(i));
    }
    return {};
  }

 private:
  // What keys, values and rows are kept in.
  Status read_types() {
    engine::EngineOptions engine;
    engine.load_format = "dummy";
    engine.dtype = options_.dtype;
    engine.kv_cache_dtype = options_.kv_cache_dtype;
    engine.dummy_table_codec = options_.table_codec;
    const Result<memory::DType> cache = engine::kv_cache_dtype(engine);
    if (!cache.ok()) return cache.status();
    cache_ = cache.value();
    const Result<memory::RowCodec> codec = engine::dummy_table_codec(engine);
    if (!codec.ok()) return codec.status();
    codec_ = codec.value();
    for (const Source& source : sources_) {
      const Status fits = table_parameter_bytes(source.whole, codec_).status();
      if (!fits.ok()) return {fits.code(), source.name + ": " + fits.message()};
    }
    return {};
  }

  Result<ModelConfig> config_of(const Source& source, const Scaled& s) const {
    Result<std::string> json =
        scale_config(source.json, source.directory, s.model, s.table_parameters);
    if (!json.ok()) return json.status();
    return engine::parse_config(json.value(), source.directory);
  }

  PaperNeeds needs_of(const ModelConfig& config, const Scaled& s) const {
    PaperSize size;
    size.table_parameters = s.table_parameters;
    size.sequences = std::min<int64_t>(s.num_seqs, options_.max_num_seqs);
    size.longest = options_.input.high + options_.output.high;
    size.activations = options_.dtype == "bfloat16" ? memory::DType::kBf16 : memory::DType::kF32;
    size.cache = cache_;
    size.codec = codec_;
    return paper_needs(config, size);
  }

  bool has_device() const { return room_.device > 0; }
  bool asks_for(const char* arm) const {
    return std::ranges::find(options_.arms, arm) != options_.arms.end();
  }
  bool fits(const PaperNeeds& n, bool tables_on_device) const {
    if (!has_device()) return n.total() <= room_.host;
    const int64_t device = n.weights + n.cache + n.other + (tables_on_device ? n.tables : 0);
    return device <= room_.device && n.tables + n.other <= room_.host;
  }

  // What is scaled, and the configurations.
  Status scale_models() {
    std::string all;
    for (const Source& source : sources_) {
      Result<ModelConfig> config = config_of(source, scaled_);
      if (!config.ok()) return config.status();
      PaperModelResult& model = report_.models.emplace_back();
      model.facts.name = source.name;
      model.facts.path = source.directory;
      model.scaled_down = describe_scaling(source.whole, config.value(), scaled_.table_parameters);
      if (!model.scaled_down.empty()) {
        all += (all.empty() ? "" : "; ") + source.name + ": " + model.scaled_down;
      }
      configs_.push_back(std::move(config).value());
    }
    const std::string requests = describe_requests();
    if (!requests.empty()) all += (all.empty() ? "" : "; ") + requests;
    if (!requests.empty()) {
      for (PaperModelResult& model : report_.models) {
        model.scaled_down += (model.scaled_down.empty() ? "" : ", ") + requests;
      }
    }
    report_.run.scaled_down = all;
    return {};
  }

  std::string describe_requests() const {
    const PaperOptions whole;
    std::string text;
    if (scaled_.num_seqs != kPaperSequences) {
      text = "sequences " + std::to_string(kPaperSequences) + " -> " +
             std::to_string(scaled_.num_seqs);
    }
    const auto range = [&](const char* what, const LengthRange& own, const LengthRange& asked) {
      if (own.low == asked.low && own.high == asked.high) return;
      const auto words = [](const LengthRange& r) {
        return std::to_string(r.low) + ":" + std::to_string(r.high);
      };
      text +=
          (text.empty() ? "" : ", ") + std::string(what) + " " + words(own) + " -> " + words(asked);
    };
    range("prompt lengths", whole.input, options_.input);
    range("answer lengths", whole.output, options_.output);
    return text;
  }

  Status check_room() const {
    for (size_t i = 0; i < sources_.size(); ++i) {
      const PaperNeeds n = needs_of(configs_[i], scaled_);
      if (fits(n, asks_for("H"))) continue;
      std::string text = sources_[i].name + ": " + format_bytes(n.total()) +
                         " of memory are needed (table " + format_bytes(n.tables) + ", weights " +
                         format_bytes(n.weights) + ", cache " + format_bytes(n.cache) + ", other " +
                         format_bytes(n.other) + "), " + format_bytes(room_.host) +
                         " of the host's are there";
      if (has_device()) text += " and " + format_bytes(room_.device) + " of the device's";
      return memory::resource_exhausted(text + what_would_fit());
    }
    return {};
  }

  bool all_fit(double scale) const {
    const Scaled s = at_scale(options_, scale);
    return std::ranges::all_of(sources_, [&](const Source& source) {
      const Result<ModelConfig> config = config_of(source, s);
      return config.ok() && fits(needs_of(config.value(), s), asks_for("H"));
    });
  }

  // The largest scale, and the largest table with all else as it was asked for.
  std::string what_would_fit() const {
    std::string text;
    for (double scale = options_.scale; scale >= kLeastScale && text.empty(); scale *= 0.95) {
      if (all_fit(scale)) text = "; --scale " + short_text(kSpare * scale) + " would fit";
    }
    int64_t table = room_.host;
    double bytes = 0;  // of a parameter
    for (size_t i = 0; i < sources_.size(); ++i) {
      const PaperNeeds n = needs_of(configs_[i], scaled_);
      const int64_t rest = has_device() ? n.other : n.total() - n.tables;
      table = std::min(table, room_.host - rest);
      bytes = std::max(bytes, table_parameter_bytes(configs_[i], codec_).value());
      const int64_t device = n.weights + n.cache + n.other;
      if (!has_device()) continue;
      table = std::min(table, asks_for("H") ? room_.device - device : table);
      if (device > room_.device) table = 0;
    }
    if (table > int64_t{1} << 20) {
      const double parameters = kSpare * static_cast<double>(table) / bytes;
      text += "; so would a table of --table-parameters " + short_text(parameters) +
              " with all else as it is";
    }
    return text.empty() ? "; not even a small part would fit" : text;
  }

  void choose_arms() {
    arms_ = options_.arms.empty() ? std::vector<std::string>{"N", "D"} : options_.arms;
    if (!options_.arms.empty() || !has_device()) return;
    bool all = true;
    for (const ModelConfig& config : configs_) all &= fits(needs_of(config, scaled_), true);
    if (all) arms_.push_back("H");
  }

  OverheadOptions overhead_options(const std::string& directory) const {
    OverheadOptions o;
    o.model = directory;
    o.arms = arms_;
    o.workloads = {"w1"};
    o.device = options_.device;
    o.threads = options_.threads;
    o.dtype = options_.dtype;
    o.kv_cache_dtype = options_.kv_cache_dtype;
    o.table_codec = options_.table_codec;
    o.max_num_seqs = options_.max_num_seqs;
    o.max_num_batched_tokens = options_.max_num_batched_tokens;
    o.work_directory = options_.work_directory;
    o.num_seqs = scaled_.num_seqs;
    o.input = options_.input;
    o.output = options_.output;
    o.experiment = options_.experiment;
    return o;
  }

  Status run_model(size_t index) {
    const Source& source = sources_[index];
    std::error_code error;
    const std::string parent = options_.work_directory.empty()
                                   ? std::filesystem::temp_directory_path(error).string()
                                   : options_.work_directory;
    Result<WorkDirectory> work = WorkDirectory::make(parent);
    if (!work.ok()) return work.status();
    const std::string path = work.value().path() + "/config.json";
    const Result<std::string> json =
        scale_config(source.json, source.directory, scaled_.model, scaled_.table_parameters);
    if (!json.ok()) return json.status();
    std::ofstream file(path, std::ios::binary);
    file << json.value();
    file.close();
    if (!file) return memory::failed_precondition(path + " cannot be written");

    OverheadReport part;
    const double models = static_cast<double>(sources_.size());
    const Status status = run_overhead(
        overhead_options(work.value().path()), &part,
        [&](const OverheadProgress& p) {
          const double done = (static_cast<double>(index) + p.done) / models;
          if (on_progress_) on_progress_({source.name + ": " + p.what, done});
        },
        {});
    keep(index, std::move(part));
    if (!status.ok()) return {status.code(), source.name + ": " + status.message()};
    if (on_model_) on_model_();
    return {};
  }

  void keep(size_t index, OverheadReport part) {
    PaperModelResult& model = report_.models[index];
    const std::string path = model.facts.path;
    const std::string name = model.facts.name;
    model.facts = part.model;
    model.facts.path = path;
    model.facts.name = name;
    OverheadReport& all = report_.run;
    all.interrupted |= part.interrupted;
    all.threads = part.threads;
    all.activations = part.activations;
    all.cache = part.cache;
    all.table_codec = part.table_codec;
    all.weights = part.weights;
    all.workloads = part.workloads;
    all.machine = part.machine;
    if (index == 0) all.peaks = part.peaks;
    all.model = model.facts;
    if (part.points.empty()) return;
    model.point = std::move(part.points.front());
    // Points of several models are told apart by it.
    model.point.result.workload.name += ", " + name;
  }

  const PaperOptions& options_;
  const PaperRoom& room_;
  PaperReport& report_;
  const std::function<void(const OverheadProgress&)>& on_progress_;
  const std::function<void()>& on_model_;
  std::vector<Source> sources_;
  std::vector<ModelConfig> configs_;
  Scaled scaled_;
  std::vector<std::string> arms_;
  memory::DType cache_ = memory::DType::kF32;
  memory::RowCodec codec_ = memory::RowCodec::kBf16;
};

}  // namespace

Result<PaperRoom> paper_room(const std::string& device) {
  PaperRoom room;
  room.host = memory::available_bytes("");
  if (device != "cuda") return room;
  const Result<engine::Backend> backend = engine::open_backend(device, 1);
  if (!backend.ok()) return backend.status();
  room.device = backend.value().device->available_bytes();
  return room;
}

Status run_paper(
    const PaperOptions& options,
    const PaperRoom& room,
    PaperReport* report,
    const std::function<void(const OverheadProgress&)>& on_progress,
    const std::function<void()>& on_model) {
  return PaperRun(options, room, report, on_progress, on_model).run();
}

}  // namespace engram::tools::bench
