#include "server/stats_line.h"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "server/log.h"

namespace engram::server {

void log_engine(const engine::EngineInfo& info, double load_seconds) {
  log_line(
      LogLevel::kInfo, "engine",
      {{"model", info.model_path},
       {"architecture", info.architecture},
       {"device", info.device},
       {"load_seconds", load_seconds},
       {"max_model_len", info.max_model_len},
       {"max_num_seqs", info.max_num_seqs},
       {"max_num_batched_tokens", info.max_num_batched_tokens},
       {"kv_pages", info.kv_pages},
       {"page_tokens", int64_t{info.page_tokens}}});
}

void StatsLine::observe(const engine::EngineStats& stats) {
  const engine::Clock::time_point now = engine::Clock::now();
  const double seconds = std::chrono::duration<double>(now - last_time_).count();
  if (seconds < 10) return;
  const int64_t prompt = stats.prompt_tokens - last_.prompt_tokens;
  const int64_t generated = stats.generation_tokens - last_.generation_tokens;
  const int64_t queries = stats.prefix_queries_tokens - last_.prefix_queries_tokens;
  const int64_t hits = stats.cached_tokens - last_.cached_tokens;
  if (prompt + generated + stats.running + stats.waiting > 0) {
    const double used = static_cast<double>(stats.kv_pages_total - stats.kv_pages_free);
    char text[400];
    std::snprintf(
        text, sizeof(text),
        "Avg prompt throughput: %.1f tokens/s, Avg generation throughput: %.1f tokens/s, "
        "Running: %lld reqs, Waiting: %lld reqs, KV cache usage: %.1f%%, Prefix cache hit rate: "
        "%.1f%%",
        static_cast<double>(prompt) / seconds, static_cast<double>(generated) / seconds,
        static_cast<long long>(stats.running), static_cast<long long>(stats.waiting),
        100 * used / static_cast<double>(std::max<int64_t>(1, stats.kv_pages_total)),
        queries > 0 ? 100 * static_cast<double>(hits) / static_cast<double>(queries) : 0.0);
    log_info(text);
  }
  last_ = stats;
  last_time_ = now;
}

}  // namespace engram::server
