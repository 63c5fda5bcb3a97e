#include "tools/bench/overhead_options.h"

#include <algorithm>
#include <set>
#include <utility>

#include "engine/model/model.h"
#include "memory/io/file.h"

namespace engram::tools::bench {
namespace {

using memory::Result;
using memory::Status;

constexpr int64_t kMostText = int64_t{64} << 20;

Workload drawn_lengths(const OverheadOptions& o, const char* name) {
  Workload w;
  w.name = name;
  w.batch = o.num_seqs;
  w.input = o.input;
  w.output = o.output;
  return w;
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

}  // namespace

engine::EngineOptions common_engine_options(const OverheadOptions& o) {
  engine::EngineOptions engine;
  engine.load_format = "dummy";
  engine.device = o.device;
  engine.dtype = o.dtype;
  engine.kv_cache_dtype = o.kv_cache_dtype;
  engine.dummy_table_codec = o.table_codec;
  return engine;
}

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

}  // namespace engram::tools::bench
