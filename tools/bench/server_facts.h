// What `engram bench` asks a server beside the requests of the load: whether it is ready, what it
// serves, and its counters. One thread.
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "memory/base/status.h"

namespace engram::tools::bench {

struct ServedModel {
  std::string id;
  int64_t max_model_len = 0;      // tokens, prompt and completion together
  uint32_t vocab_size = 0;        // of the model or the tokenizer, the smaller
  std::vector<uint32_t> special;  // begin and end of text
};

class ServerFacts {
 public:
  explicit ServerFacts(std::string server);

  // Waits while the server is loading, and while nobody answers too where `patient`, at most for
  // `seconds`. CANCELLED after an interruption, UNAVAILABLE when the time is over.
  grpc::Status wait_until_ready(double seconds, bool patient, const std::atomic<bool>* interrupted);

  // An empty name is the one that is served. NOT_FOUND names those that are.
  grpc::Status find_model(const std::string& name, ServedModel* model);

  // Totals since the server's start: tokens, steps, n-gram rows, exposed wait.
  grpc::Status counters(std::map<std::string, double>* counters);

  // Tokens of a text, without special ones.
  memory::Result<int64_t> count_tokens(const std::string& model, const std::string& text);

 private:
  const std::string server_;
  const std::shared_ptr<grpc::ChannelInterface> channel_;  // as grpcpp hands it out
};

}  // namespace engram::tools::bench
