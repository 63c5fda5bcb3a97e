// One request of a load run: a StreamComplete call that notes when each message came. What happens
// per message touches this object alone.
//
// Threads: start() on any, once; cancel() on any, at any time; the rest is called by gRPC, one
// call at a time.
#pragma once

#include <engram/v1/completions.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "tools/bench/records.h"
#include "tools/bench/timers.h"

namespace engram::tools::bench {

class LoadStream : public grpc::ClientReadReactor<v1::CompleteResponse>,
                   public std::enable_shared_from_this<LoadStream> {
 public:
  // Who started it.
  class Owner {
   public:
    virtual ~Owner() = default;
    // The call is over. Nothing touches the stream after it but those who hold it.
    virtual void finished(LoadStream* stream, const grpc::Status& status) = 0;
  };
  struct Setting {
    Owner* owner = nullptr;
    Timers* timers = nullptr;
    RunClock::time_point zero;  // the start of the run
    double timeout_s = 0;       // 0: none
    bool keep_text = false;
  };

  // `index` is the owner's name for it.
  LoadStream(
      const Setting& setting,
      size_t index,
      const PlannedRequest& plan,
      v1::CompleteRequest request);

  void start(v1::Completions::Stub* stub, double ready_s);
  void cancel() { context_.TryCancel(); }

  size_t index() const { return index_; }
  // Of finished(): whole but for the outcome.
  RequestRecord& record() { return record_; }

  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override { setting_.owner->finished(this, status); }

 private:
  double now() const {
    return std::chrono::duration<double>(RunClock::now() - setting_.zero).count();
  }
  void note(double at_s);

  const Setting setting_;
  const size_t index_;
  const double read_pause_s_;
  const v1::CompleteRequest request_;
  grpc::ClientContext context_;
  v1::CompleteResponse message_;
  RequestRecord record_;
};

}  // namespace engram::tools::bench
