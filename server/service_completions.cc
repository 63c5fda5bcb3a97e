// The two reactors of the Completions service. A reactor is one object with the call it serves: it
// holds itself until gRPC says OnDone, the engine holds it until its last word.
#include <engram/v1/completions.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <mutex>
#include <utility>

#include "server/completion_call.h"
#include "server/services.h"

namespace engram::server {
namespace {

using engine::Clock;

CallHeader read_header(const char* method, const grpc::CallbackServerContext& context) {
  CallHeader header;
  header.method = method;
  header.peer = context.peer();
  const auto& metadata = context.client_metadata();
  const auto id = metadata.find("x-request-id");
  if (id != metadata.end()) header.request_id.assign(id->second.data(), id->second.size());
  const auto deadline = context.deadline();
  if (deadline != std::chrono::system_clock::time_point::max()) {
    header.deadline = Clock::now() + (deadline - std::chrono::system_clock::now());
  }
  return header;
}

// The part of a reactor that does not depend on its shape.
class RpcCall : public CompletionCall {
 public:
  RpcCall(
      Front& front,
      grpc::CallbackServerContext* context,
      const v1::CompleteRequest* request,
      const char* method)
      : CompletionCall(front, request, read_header(method, *context)), context_(context) {
    context->AddInitialMetadata("x-request-id", id());
  }

 protected:
  void cancel_rpc() override {
    const std::lock_guard lock(context_mu_);
    if (context_ != nullptr) context_->TryCancel();
  }
  // The context is gRPC's and goes away after OnDone.
  void end_rpc() {
    {
      const std::lock_guard lock(context_mu_);
      context_ = nullptr;
    }
    rpc_done();
  }

 private:
  // Recursive: TryCancel() may run the reaction OnDone() before it returns.
  std::recursive_mutex context_mu_;
  grpc::CallbackServerContext* context_;
};

class StreamCall final : public RpcCall, public grpc::ServerWriteReactor<v1::CompleteResponse> {
 public:
  using RpcCall::RpcCall;

  // Keeps the call alive until OnDone().
  void start(std::shared_ptr<StreamCall> self) {
    self_ = std::move(self);
    StartSendInitialMetadata();
    begin();
  }

  void pump() override {
    std::unique_lock lock(mu_);
    pump_posted_ = false;
    if (finished_ || write_in_flight_) return;
    const bool failed = may_finish() && !final_error().ok();
    if (replies_ && !replies_->empty() && !broken_) {
      replies_->take(&writing_);
      write_in_flight_ = true;
      write_begin_ = Clock::now();
      ++messages_;
      // The status of a success goes out with the last message.
      finished_ = may_finish() && !failed && replies_->empty();
      const bool last = finished_;
      lock.unlock();
      if (last) {
        StartWriteAndFinish(&writing_, grpc::WriteOptions(), grpc::Status::OK);
      } else {
        StartWrite(&writing_);
      }
      return;
    }
    if (!may_finish()) return;
    finished_ = true;
    const CallError error = final_error();
    lock.unlock();
    Finish(to_grpc(error));
  }

  void OnWriteDone(bool ok) override {
    {
      const std::lock_guard lock(mu_);
      write_in_flight_ = false;
      if (!ok) broken_ = true;  // nothing can be sent; OnCancel() tells the engine
    }
    pump();
  }
  void OnCancel() override { rpc_cancelled(); }
  void OnDone() override {
    end_rpc();
    self_.reset();
  }

 protected:
  bool streams() const override { return true; }

 private:
  std::shared_ptr<StreamCall> self_;
  v1::CompleteResponse writing_;  // of the write in flight
  bool broken_ = false;           // guarded by mu_
};

class UnaryCall final : public RpcCall, public grpc::ServerUnaryReactor {
 public:
  UnaryCall(
      Front& front,
      grpc::CallbackServerContext* context,
      const v1::CompleteRequest* request,
      v1::CompleteResponse* response)
      : RpcCall(front, context, request, "Complete"), response_(response) {}

  void start(std::shared_ptr<UnaryCall> self) {
    self_ = std::move(self);
    StartSendInitialMetadata();
    begin();
  }

  void pump() override {
    CallError error;
    {
      const std::lock_guard lock(mu_);
      pump_posted_ = false;
      if (finished_ || !may_finish()) return;
      finished_ = true;
      error = final_error();
      if (error.ok()) {
        replies_->take_all(response_);
        ++messages_;
      }
    }
    Finish(to_grpc(error));
  }

  void OnCancel() override { rpc_cancelled(); }
  void OnDone() override {
    end_rpc();
    self_.reset();
  }

 protected:
  bool streams() const override { return false; }

 private:
  std::shared_ptr<UnaryCall> self_;
  v1::CompleteResponse* response_;
};

class CompletionsService final : public v1::Completions::CallbackService {
 public:
  explicit CompletionsService(Front& front) : front_(front) {}

  grpc::ServerUnaryReactor* Complete(
      grpc::CallbackServerContext* context,
      const v1::CompleteRequest* request,
      v1::CompleteResponse* response) override {
    auto call = std::make_shared<UnaryCall>(front_, context, request, response);
    call->start(call);
    return call.get();
  }

  grpc::ServerWriteReactor<v1::CompleteResponse>* StreamComplete(
      grpc::CallbackServerContext* context, const v1::CompleteRequest* request) override {
    auto call = std::make_shared<StreamCall>(front_, context, request, "StreamComplete");
    call->start(call);
    return call.get();
  }

 private:
  Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_completions_service(Front& front) {
  return std::make_unique<CompletionsService>(front);
}

}  // namespace engram::server
