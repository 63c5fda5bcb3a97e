#include <engram/v1/tokenizer.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "server/front.h"
#include "server/request_reader.h"
#include "server/services.h"
#include "server/unary.h"

namespace engram::server {
namespace {

constexpr const char* kService = "engram.v1.Tokenizer";
// Longer texts are tokenized by a worker: a reaction of gRPC must be short.
constexpr size_t kInlineBytes = 4096;

CallError invalid(const std::string& field, const std::string& what) {
  return {memory::invalid_argument(field + " " + what), field};
}

// A reactor whose answer a worker may give.
class TokenizeCall final : public grpc::ServerUnaryReactor {
 public:
  TokenizeCall(Front& front, const v1::TokenizeRequest* request, v1::TokenizeResponse* response)
      : front_(front), request_(request), response_(response) {}

  void start() {
    if (request_->text().size() <= kInlineBytes) return run();
    front_.text.post([this] { run(); });
  }
  void OnDone() override { delete this; }

 private:
  void run() {
    const auto begin = std::chrono::steady_clock::now();
    const CallError error = tokenize();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    front_.metrics.rpc_ended(kService, "Tokenize", error.status.code(), taken.count());
    Finish(to_grpc(error));
  }

  CallError tokenize() {
    if (!request_->has_text()) return invalid("text", "is required");
    if (static_cast<int64_t>(request_->text().size()) > kMaxTextBytes) {
      return invalid(
          "text", "bytes must be at most " + std::to_string(kMaxTextBytes) + ", got " +
                      std::to_string(request_->text().size()));
    }
    CallError error = {front_.slot.check_model(request_->model()), ""};
    if (!error.ok()) return error;
    memory::Result<std::shared_ptr<engine::Engine>> engine = front_.slot.ready_engine();
    if (!engine.ok()) return {engine.status(), ""};
    const engine::Tokenizer& tokenizer = engine.value()->tokenizer();
    const bool special = !request_->has_add_special_tokens() || request_->add_special_tokens();
    for (const int32_t id : tokenizer.encode(request_->text(), special)) {
      response_->add_token_ids(static_cast<uint32_t>(id));
      if (!request_->token_bytes()) continue;
      const std::string_view raw = tokenizer.token_bytes(id);
      response_->add_token_bytes(raw.data(), raw.size());
    }
    response_->set_max_model_len(static_cast<uint64_t>(engine.value()->info().max_model_len));
    return {};
  }

  Front& front_;
  const v1::TokenizeRequest* request_;
  v1::TokenizeResponse* response_;
};

CallError detokenize(
    Front& front, const v1::DetokenizeRequest& request, v1::DetokenizeResponse* response) {
  CallError error = {front.slot.check_model(request.model()), ""};
  if (!error.ok()) return error;
  memory::Result<std::shared_ptr<engine::Engine>> engine = front.slot.ready_engine();
  if (!engine.ok()) return {engine.status(), ""};
  const int64_t count = request.token_ids_size();
  if (count > kMaxDetokenizeIds) {
    return invalid(
        "token_ids", "may have at most " + std::to_string(kMaxDetokenizeIds) + " entries, got " +
                         std::to_string(count));
  }
  const engine::Tokenizer& tokenizer = engine.value()->tokenizer();
  std::vector<int32_t> ids;
  ids.reserve(static_cast<size_t>(count));
  for (int i = 0; i < request.token_ids_size(); ++i) {
    const uint32_t id = request.token_ids(i);
    if (int64_t{id} >= tokenizer.size()) {
      return invalid(
          "token_ids[" + std::to_string(i) + "]", "is " + std::to_string(id) +
                                                      ", outside the tokenizer's " +
                                                      std::to_string(tokenizer.size()) + " ids");
    }
    ids.push_back(static_cast<int32_t>(id));
  }
  response->set_text(tokenizer.decode(ids, request.skip_special_tokens()));
  return {};
}

class TokenizerService final : public v1::Tokenizer::CallbackService {
 public:
  explicit TokenizerService(Front& front) : front_(front) {}

  grpc::ServerUnaryReactor* Tokenize(
      grpc::CallbackServerContext*,
      const v1::TokenizeRequest* request,
      v1::TokenizeResponse* response) override {
    auto* call = new TokenizeCall(front_, request, response);  // deletes itself in OnDone()
    call->start();
    return call;
  }

  grpc::ServerUnaryReactor* Detokenize(
      grpc::CallbackServerContext* context,
      const v1::DetokenizeRequest* request,
      v1::DetokenizeResponse* response) override {
    return answer(context, front_.metrics, kService, "Detokenize", [&] {
      return detokenize(front_, *request, response);
    });
  }

 private:
  Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_tokenizer_service(Front& front) {
  return std::make_unique<TokenizerService>(front);
}

}  // namespace engram::server
