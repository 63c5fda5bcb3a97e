// The load generator: sends the requests of a plan to an engramd over gRPC at the times of the
// plan, whatever becomes of the earlier ones, and records when each was sent and each message came.
//
// One thread sends, with priority where that is permitted, so that on few cores receiving does not
// delay sending, and a second one where the first is late or busy; gRPC's threads receive; the
// caller's thread watches.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/records.h"

namespace grpc {
class Channel;
}

namespace engram::tools::bench {

// How tokens are drawn; what is not set is up to the server.
struct LoadSampling {
  std::optional<float> temperature;
  std::optional<float> top_p;
  std::optional<int32_t> top_k;
  std::optional<float> min_p;
};

struct LoadProgress {
  int64_t over = 0;     // requests of the plan, whatever became of them
  int64_t running = 0;  // calls
  int64_t waiting = 0;  // for max_concurrency
  int64_t failed = 0;   // calls
};

struct LoadOptions {
  std::string model;              // empty: the one that is served
  int64_t max_concurrency = 0;    // 0: no limit; not for probes
  double probe_rate = 0;          // per second
  double request_timeout_s = 0;   // 0: none
  std::string request_id_prefix;  // request 7 is prefix + "7", probe 7 prefix + "probe-7"; or empty
  LoadSampling sampling;
  bool keep_text = false;
  const std::atomic<bool>* interrupted = nullptr;        // ends the run when it becomes true
  std::function<void(const LoadProgress&)> on_progress;  // ten times a second; may be empty
};

struct LoadResult {
  std::vector<RequestRecord> requests;  // in the order of the plan
  std::vector<RequestRecord> probes;    // that were sent
  double duration_s = 0;                // from the start to the last answer
  int64_t started_at = 0;               // seconds since 1970
  double client_cpu_s = 0;              // of this process, all threads
  int threads = 1;                      // that sent and received, at most one per core
  bool priority = false;                // whether the threads that send had it
  bool interrupted = false;
  std::string server_lost;  // why the run was given up; empty: it was not
};

class LoadClient {
 public:
  // UNAVAILABLE when the connections are not there after `timeout_s`.
  static memory::Result<LoadClient> connect(
      const std::string& server, int connections, double timeout_s);

  // The plan is in the order of at_s. Probes are sent beside it, at equal intervals and in turn,
  // until its last request is over. Returns when every call is over. After an interruption, and
  // when the server cannot be connected to any more, nothing more is sent and calls are cancelled:
  // what there is till then is in the result. One run at a time.
  LoadResult run(
      const std::vector<PlannedRequest>& plan,
      const std::vector<PlannedRequest>& probes,
      const LoadOptions& options);

 private:
  explicit LoadClient(std::vector<std::shared_ptr<grpc::Channel>> channels)
      : channels_(std::move(channels)) {}

  // Shared with the calls that gRPC still closes.
  std::vector<std::shared_ptr<grpc::Channel>> channels_;
};

}  // namespace engram::tools::bench
