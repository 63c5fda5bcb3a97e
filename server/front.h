// What all calls of a server share.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/engine_slot.h"
#include "server/metrics.h"
#include "server/worker.h"

namespace engram::server {

class CompletionCall;

// The calls in progress, for the stall check and the end of a drain. Any thread.
class CallRegistry {
 public:
  void add(const std::shared_ptr<CompletionCall>& call);
  void remove(const CompletionCall* call);
  int64_t size() const;
  std::vector<std::shared_ptr<CompletionCall>> all() const;

 private:
  mutable std::mutex mu_;
  std::unordered_map<const CompletionCall*, std::weak_ptr<CompletionCall>> calls_;
};

struct Front {
  Front(std::vector<std::string> served_names, Metrics& metrics_of_all)
      : metrics(metrics_of_all), slot(std::move(served_names)) {}

  Metrics& metrics;
  CallRegistry calls;
  double max_request_seconds = 0;  // 0: no limit
  bool log_requests = true;
  uint64_t id_salt = 0;  // of this process; in generated request ids
  Worker delivery;       // writes to streams
  Worker text;           // tokenizes long prompts
  Worker operation;      // does what an operator asked for and takes long
  // How the engine's tables were opened; a swap changes the directory.
  memory::TableSetOptions tables;
  // Last, so that it goes first: an engine that ends calls with its own end needs the workers.
  EngineSlot slot;
};

// "cmpl-" and 16 hex digits, different for every call of a process.
std::string make_request_id(const Front& front);

}  // namespace engram::server
