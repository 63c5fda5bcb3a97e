// One run of the load generator: which request is sent when, by whom, and what is done when the run
// must end early. See load_client.h for the threads.
#pragma once

#include <engram/v1/completions.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/bench/gate.h"
#include "tools/bench/load_client.h"
#include "tools/bench/load_stream.h"
#include "tools/bench/timers.h"
#include "tools/bench/turns.h"

namespace engram::tools::bench {

class LoadRun : public LoadStream::Owner {
 public:
  using Channels = std::vector<std::shared_ptr<grpc::Channel>>;

  LoadRun(
      const Channels& channels,
      const std::vector<PlannedRequest>& plan,
      const std::vector<PlannedRequest>& probes,
      const LoadOptions& options);

  LoadResult run();

  void finished(LoadStream* stream, const grpc::Status& status) override;

 private:
  void ended();  // one of ending_
  // Requests count from 0, probes from plan_.size().
  bool is_probe(size_t index) const { return index >= plan_.size(); }
  PlannedRequest probe_of(size_t index) const;
  v1::CompleteRequest request_of(size_t index, const PlannedRequest& planned) const;
  std::shared_ptr<LoadStream> make_stream(size_t index) const;
  double now() const { return std::chrono::duration<double>(RunClock::now() - zero_).count(); }

  // The threads that send.
  void pace(Pacer::Part part);
  // What is sent next, a request or a probe; none after the last request where there are no probes.
  std::optional<Turns<std::shared_ptr<LoadStream>>::Item> make_next();
  // Any thread. Does nothing when the run is being stopped.
  void start(const std::shared_ptr<LoadStream>& stream, double ready_s);
  void judge(RequestRecord& record, double cancel_after_s, const grpc::Status& status);

  // The caller's thread.
  void watch();
  void look_for_the_server();
  void keep_receivers_awake();
  void stop();
  LoadProgress progress();

  // constant
  const Channels& channels_;
  const std::vector<PlannedRequest>& plan_;
  const std::vector<PlannedRequest>& probes_;
  const LoadOptions& options_;
  std::vector<std::unique_ptr<v1::Completions::Stub>> stubs_;
  RunClock::time_point zero_;
  LoadStream::Setting setting_;

  // caller's thread
  RunClock::time_point last_seen_;  // a connection, after calls failed for want of one
  bool looking_ = false;
  int rounds_ = 0;

  // atomic: told between the threads without the lock
  std::atomic<bool> stop_pacing_{false};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> connection_failed_{false};
  std::atomic<int64_t> failed_{0};
  std::atomic<int64_t> left_;  // requests of the plan that are not over

  // by who makes the next one
  size_t next_request_ = 0;
  size_t next_probe_;
  Turns<std::shared_ptr<LoadStream>> turns_;

  Gate gate_;
  LoadResult result_;  // requests[i]: by whoever finishes request i

  // guarded by mu_
  std::mutex mu_;
  std::condition_variable changed_;
  // Shared: a timer or stop() may cancel while gRPC ends the call.
  std::unordered_map<size_t, std::shared_ptr<LoadStream>> live_;
  // Calls that are over but not let go of yet. gRPC's threads let go of all of theirs before run()
  // returns: who lets go of the last channel joins those threads, which none of them can do itself
  // (gRPC 1.51 frees the queue under it then).
  int ending_ = 0;
  std::deque<RequestRecord> probe_records_;
  int pacing_ = 0;  // threads that send

  Timers timers_;  // last: its thread ends first
};

}  // namespace engram::tools::bench
