#include "server/access_log.h"

#include <string>

#include "server/log.h"

namespace engram::server {

void log_access(const CallRecord& record) {
  LogFields fields = {
      {"request_id", record.request_id},
      {"method", record.method},
      {"peer", record.peer},
      {"model", record.model},
      {"code", std::string(memory::code_name(record.code))},
  };
  if (record.submitted) {
    std::string finish;
    int64_t choices = 0;
    for (const auto& [reason, count] : record.finished) {
      if (!finish.empty()) finish += ',';
      finish += engine::finish_reason_name(reason);
      choices += count;
      if (count > 1) finish += "*" + std::to_string(count);
    }
    const engine::Usage& usage = record.usage;
    // Time per token after the first ones, over the choices that ran side by side.
    double per_token_ms = 0;
    const int64_t later = usage.completion_tokens - choices;
    if (later > 0 && record.first_token_seconds > 0) {
      per_token_ms =
          (record.total_seconds - record.first_token_seconds) * 1e3 / static_cast<double>(later);
    }
    fields.insert(
        fields.end(), {{"finish", finish},
                       {"prompt_tokens", usage.prompt_tokens},
                       {"cached_tokens", usage.cached_tokens},
                       {"output_tokens", usage.completion_tokens},
                       {"queue_ms", usage.queue_seconds * 1e3},
                       {"ttft_ms", record.first_token_seconds * 1e3},
                       {"tpot_ms", per_token_ms},
                       {"preemptions", usage.preemptions}});
  }
  fields.emplace_back("e2e_ms", record.total_seconds * 1e3);
  if (!record.aborted.empty()) fields.emplace_back("aborted", record.aborted);
  if (!record.rejected.empty()) fields.emplace_back("rejected", record.rejected);
  if (!record.message.empty()) fields.emplace_back("error", record.message);
  log_line(LogLevel::kInfo, "request", fields);
}

}  // namespace engram::server
