#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/run/engine.h"
#include "tests/bench/engine_rig.h"
#include "tests/bench/gpu/cases.h"
#include "tests/bench/gpu/suite.h"
#include "tests/bench/model_costs.h"

namespace engram::bench::gpu {
namespace {

using engine::Engine;
using engine::ModelConfig;
using Clock = std::chrono::steady_clock;

// When tokens came; a delta may bring several.
struct Arrival {
  Clock::time_point at;
  int64_t tokens = 0;  // so far
};

class TimedSink : public WaitingSink {
 public:
  void on_delta(engine::Delta delta) override {
    const std::lock_guard<std::mutex> lock(arrivals_mu_);
    const int64_t before = arrivals_.empty() ? 0 : arrivals_.back().tokens;
    arrivals_.push_back({Clock::now(), before + std::ssize(delta.token_ids)});
  }
  std::vector<Arrival> arrivals() {
    const std::lock_guard<std::mutex> lock(arrivals_mu_);
    return arrivals_;
  }

 private:
  std::mutex arrivals_mu_;
  std::vector<Arrival> arrivals_;
};

struct Load {
  std::string name;
  int batch = 1;
  int64_t prompt = 0;
  int64_t tokens = 1;  // drawn; 1: the time to the first token is measured, else that of a step
};

struct Model {
  std::string name;
  std::string directory;
  std::vector<std::string> arms;  // how rows are fetched; "" for a model without Engram
};

double us_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double, std::micro>(end - begin).count();
}

// The time of one step with all requests running, or of a prompt.
double run_load(Engine& engine, const Load& load, uint64_t seed) {
  const Prompts prompts =
      random_prompts(seed, engine.info().config.vocab_size, load.batch, load.prompt);
  std::vector<std::shared_ptr<TimedSink>> sinks;
  const Clock::time_point begin = Clock::now();
  for (const std::vector<int32_t>& prompt : prompts) {
    engine::Request request;
    request.id = std::to_string(sinks.size());
    request.prompt_ids = prompt;
    // Made-up weights would repeat their likeliest token for ever, and with it the rows it needs.
    request.sampling.temperature = 1.f;
    request.sampling.seed = seed;
    request.sampling.ignore_eos = true;
    request.sampling.max_tokens = load.tokens;
    request.bypass_prefix_cache = true;
    sinks.push_back(std::make_shared<TimedSink>());
    request.sink = sinks.back();
    tests::ok_or_die(engine.submit(std::move(request)));
  }
  for (const std::shared_ptr<TimedSink>& sink : sinks) sink->wait();
  if (load.tokens == 1) return us_between(begin, sinks[0]->arrivals().back().at);
  Clock::time_point all_run = begin;
  Clock::time_point first_ends = Clock::time_point::max();
  for (const std::shared_ptr<TimedSink>& sink : sinks) {
    const std::vector<Arrival> arrivals = sink->arrivals();
    all_run = std::max(all_run, arrivals.front().at);
    first_ends = std::min(first_ends, arrivals.back().at);
  }
  std::vector<Arrival> steps = sinks.back()->arrivals();
  const std::vector<Arrival> whole = steps;
  std::erase_if(steps, [&](const Arrival& a) { return a.at < all_run || a.at > first_ends; });
  if (steps.size() < 2) steps = whole;
  return us_between(steps.front().at, steps.back().at) /
         static_cast<double>(std::max<int64_t>(1, steps.back().tokens - steps.front().tokens));
}

memory::Result<std::unique_ptr<Engine>> start(
    const Model& model, const std::string& arm, const Options& options) {
  engine::EngineOptions o = dummy_engine(model.directory, 0);
  o.device = "cuda";
  o.dtype = "bfloat16";
  if (!arm.empty()) o.ngram_fetch = arm;
  if (!options.smoke) {
    const auto config = engine::load_config(model.directory);
    if (!config.ok()) return config.status();
    const int64_t positions = std::min<int64_t>(config.value().max_position_embeddings, 8448);
    o.max_num_seqs = 64;
    o.max_num_batched_tokens = 8192;
    o.max_model_len = positions;
    o.kv_cache_bytes = (64 * 1024 + positions) * cache_bytes(config.value());
  } else {
    o.max_model_len = 64;
    o.max_num_batched_tokens = 16;
    o.max_num_seqs = 4;
    o.kv_cache_bytes = 8 << 20;
  }
  return engine::make_engine(o);
}

// What performance figures elsewhere and arithmetic say of an H200, and what the project wants.
void add_words(const Model& model, const Load& load, Figure* f) {
  const bool small = model.name == "dense-4b";
  if (!small && model.name != "dense-8b") return;
  if (load.tokens == 1) {
    f->prediction = small ? "85 ms at 700 TFLOP/s" : "163 ms at 700 TFLOP/s";
    f->bar = Bar{.of = "datasheet_share", .value = 0.50, .aim = 0.65};
  } else if (load.batch == 1) {
    f->prediction = small ? "1.90 ms at 4.3 TB/s" : "3.55 ms at 4.3 TB/s";
    f->bar = small ? Bar{.of = "datasheet_share", .value = 0.65, .aim = 0.80}
                   : Bar{.of = "datasheet_share", .value = 0.72, .aim = 0.85};
  } else if (load.batch == 64) {
    f->prediction = small ? "3.63 ms at 4.3 TB/s" : "5.28 ms at 4.3 TB/s";
    f->bar = Bar{.of = "ratio", .value = 0.65, .aim = 0.80};
  }
}

class ModelBench {
 public:
  ModelBench(Figures& figures, const Options& options, double read, double multiply, bool h200)
      : figures_(figures), options_(options), read_(read), multiply_(multiply), h200_(h200) {}

  void run(const Model& model, const std::vector<Load>& loads) {
    std::map<std::string, std::unique_ptr<Engine>> engines;
    for (const std::string& arm : model.arms) {
      memory::Result<std::unique_ptr<Engine>> engine = start(model, arm, options_);
      if (!engine.ok()) {
        figures_.add_missing(
            "engine", model.name + " " + arm, "not started: " + engine.status().to_string());
        if (engine.status().code() != memory::Code::kResourceExhausted) {
          figures_.fail(model.name + ": " + engine.status().to_string());
        }
        return;
      }
      engines[arm] = std::move(engine).value();
    }
    for (const Load& load : loads) run_rounds(model, load, engines);
  }

 private:
  void run_rounds(
      const Model& model,
      const Load& load,
      const std::map<std::string, std::unique_ptr<Engine>>& engines) {
    if (load.prompt + load.tokens > engines.begin()->second->info().max_model_len) return;
    std::map<std::string, std::vector<double>> us;
    const int rounds = std::min(options_.rounds, 5);
    for (int round = -1; round < rounds; ++round) {
      if (round > 0 && figures_.seconds_left() < 0) break;
      for (const auto& [arm, engine] : engines) {
        const double taken = run_load(*engine, load, static_cast<uint64_t>(round + 2));
        if (round >= 0) us[arm].push_back(taken);
      }
    }
    for (const auto& [arm, engine] : engines)
      tell(model, load, arm, engine->info().config, us[arm]);
    tell_cost(model, load, us, "prefetch", "skip");
    tell_cost(model, load, us, "sync", "prefetch");
  }

  void tell(
      const Model& model,
      const Load& load,
      const std::string& arm,
      const ModelConfig& c,
      const std::vector<double>& us) {
    const bool engram = !c.engram.layer_ids.empty() && arm != "skip";
    Figure f;
    f.group = "engine";
    f.name = model.name + (arm.empty() ? "" : " " + arm) + ", " + load.name;
    f.us = median(us);
    const auto [low, high] = std::minmax_element(us.begin(), us.end());
    f.spread_percent = 100. * (*high - *low) / *f.us;
    f.rounds = static_cast<int>(us.size());
    if (load.tokens == 1) {
      f.tokens = load.prompt;
      f.flops = prefill_flops(c, load.prompt, engram);
      f.limit = limit_name(Limit::kMultiply);
      f.limit_rate = multiply_;
      f.ratio = static_cast<double>(f.flops) / *f.us * 1e-3 / multiply_;
      if (h200_) f.datasheet_share = static_cast<double>(f.flops) / *f.us / 989e6;
    } else {
      const int64_t context = load.prompt + load.tokens / 2;
      f.tokens = load.batch;
      f.bytes = step_bytes(c, engram) + load.batch * context * cache_bytes(c);
      f.flops = 2 * load.batch * step_weights(c, engram);
      f.limit = limit_name(Limit::kAddedRoofs);
      const double allowed = static_cast<double>(f.bytes) / read_ * 1e-3 +
                             static_cast<double>(f.flops) / multiply_ * 1e-3;
      f.ratio = allowed / *f.us;
      if (h200_) f.datasheet_share = static_cast<double>(f.bytes) / *f.us / 4.8e6;
    }
    add_words(model, load, &f);
    figures_.add(f);
  }

  // The median over rounds of what an arm takes longer than another.
  void tell_cost(
      const Model& model,
      const Load& load,
      const std::map<std::string, std::vector<double>>& us,
      const std::string& arm,
      const std::string& base) {
    if (!us.contains(arm) || !us.contains(base)) return;
    std::vector<double> percents;
    for (size_t i = 0; i < std::min(us.at(arm).size(), us.at(base).size()); ++i) {
      percents.push_back(100. * (us.at(arm)[i] / us.at(base)[i] - 1.));
    }
    Figure f;
    f.group = "engine";
    f.name = model.name + ", " + load.name + ": " + arm + " against " + base;
    f.percent = median(percents);
    if (base == "skip" && model.name == "engram-4b" && load.tokens > 1) {
      const bool one = load.batch == 1;
      f.prediction = one ? "0.2 to 0.5 %" : "0.1 to 0.3 %";
      f.bar =
          Bar{.of = "percent", .value = one ? 1.5 : 1.0, .aim = one ? 0.5 : 0.3, .at_least = false};
    }
    f.note = "time of a step, median of paired rounds";
    figures_.add(f);
  }

  Figures& figures_;
  const Options options_;
  const double read_;      // GB/s
  const double multiply_;  // GFLOP/s
  const bool h200_;
};

}  // namespace

void run_engine(Figures& figures, const Options& options) {
  double read = 0;
  double multiply = 0;
  bool h200 = false;
  {
    Rig rig({.max_tokens = 8192, .max_cols = 8192, .max_rows = 8192, .max_context = 1024});
    Suite suite(rig, figures, options, "engine", {Limit::kRead, Limit::kMultiply});
    suite.run();
    read = suite.rate(Limit::kRead);
    multiply = suite.rate(Limit::kMultiply);
    h200 = rig.facts().name == "NVIDIA H200";
  }
  ModelBench bench(figures, options, read, multiply, h200);
  if (options.smoke) {
    bench.run(
        {"demo", "configs/demo", {"skip", "prefetch"}},
        {{"decode, batch 2", 2, 2, 3}, {"prefill", 1, 4, 1}});
    return;
  }
  const std::vector<Load> loads = {
      {"decode, batch 1, context 800", 1, 768, 64},
      {"decode, batch 8, context 800", 8, 768, 64},
      {"decode, batch 64, context 800", 64, 768, 64},
      {"prefill of 2048", 1, 2048, 1},
      {"prefill of 8192", 1, 8192, 1}};
  const std::vector<std::string> arms = {"prefetch", "skip", "sync"};
  const std::vector<Model> models = {
      {"dense-0.5b", "configs/bench/dense-0.5b", {""}},
      {"engram-0.5b", "configs/bench/engram-0.5b", arms},
      {"dense-4b", "configs/bench/dense-4b", {""}},
      {"dense-8b", "configs/bench/dense-8b", {""}},
      {"engram-4b", "configs/bench/engram-4b", arms}};
  for (const Model& model : models) {
    if (figures.seconds_left() > 30) {
      bench.run(model, loads);
    } else {
      figures.add_missing("engine", model.name, "no time was left");
    }
  }
}

}  // namespace engram::bench::gpu
