// One Completions call between gRPC and the engine, without gRPC: reads the request, submits one
// engine request per prompt, gathers the output, and says when there is something to send.
//
// Threads: begin() and the rpc_*() methods come from gRPC's threads, the sinks from the engine's,
// pump() from the delivery worker or a gRPC thread. The derived class does the sending and stays
// alive as long as anybody holds it; its gRPC part is over with rpc_done().
#pragma once

#include <engram/v1/completions.pb.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "server/call_record.h"
#include "server/error_details.h"
#include "server/front.h"
#include "server/reply_builder.h"
#include "server/request_reader.h"

namespace engram::server {

// What the RPC layer knows when a call comes in.
struct CallHeader {
  std::string method;
  std::string peer;
  std::string request_id;  // of the metadata; may be empty
  std::optional<engine::Clock::time_point> deadline;
};

class CompletionCall : public std::enable_shared_from_this<CompletionCall> {
 public:
  // `request` lives until rpc_done().
  CompletionCall(Front& front, const v1::CompleteRequest* request, CallHeader header);
  virtual ~CompletionCall() = default;

  const std::string& id() const { return record_.request_id; }
  // Reads, checks and submits. Once, after construction is complete.
  void begin();
  // Ends the call early; the first caller's code stands. `source` as in CallRecord::aborted.
  void abort(memory::Code code, const std::string& message, const char* source);
  // Aborts when a write has been waiting for the reader for longer than `limit`.
  void check_stall(engine::Clock::time_point now, engine::Clock::duration limit);
  // Sends what is there, if nothing is being sent. Never called with the lock held.
  virtual void pump() = 0;

 protected:
  // Only streams send before the end.
  virtual bool streams() const = 0;
  // Ends the RPC from this side, as if the client had cancelled. May be called at any time.
  virtual void cancel_rpc() = 0;

  void rpc_cancelled();  // the client went away or its deadline passed
  void rpc_done();       // the last call of gRPC

  // The following are for pump() and REQUIRE mu_.
  // The status may be sent: the engine has ended the call, or need not be waited for.
  bool may_finish() const { return !preparing_ && (parts_left_ == 0 || abandoned_); }
  CallError final_error() const { return error_; }

  std::mutex mu_;
  std::optional<ReplyBuilder> replies_;  // absent until the request is read
  bool finished_ = false;                // the status was handed to gRPC
  bool write_in_flight_ = false;
  bool pump_posted_ = false;
  engine::Clock::time_point write_begin_;
  int64_t messages_ = 0;

 private:
  class PartSink;

  bool over() const { return !preparing_ && parts_left_ == 0; }
  void prepare();
  CallError submit_all();
  engine::Request make_part(size_t index, std::vector<int32_t> ids);
  void prepared(const CallError& error);
  void on_delta(int part, engine::Delta&& delta);
  void on_finish(int part, int choice, const engine::Finish& finish);
  void on_done(const memory::Status& status, const engine::Usage& usage);
  void complete_locked();
  void fail_locked(const CallError& error, const char* source);
  void abort_parts(memory::Code code);
  void post_pump_locked();
  void report_if_over();

  // constant after begin()
  Front& front_;
  const v1::CompleteRequest* request_;
  const engine::Clock::time_point arrival_;
  std::optional<engine::Clock::time_point> deadline_;
  std::shared_ptr<engine::Engine> engine_;
  ReadRequest read_;

  // guarded by mu_
  std::vector<std::string> parts_;  // ids of the engine's requests
  int parts_left_ = 0;
  bool preparing_ = true;
  bool abandoned_ = false;  // aborted from this side: what the engine still says is not sent
  bool rpc_done_ = false;
  bool reported_ = false;
  CallError error_;
  CallRecord record_;
  std::vector<engine::Clock::time_point> last_token_;  // by choice
};

}  // namespace engram::server
