// The Prometheus metrics, on a port of their own. Names and meanings follow vLLM where it has them,
// with the prefix engram_. Any thread; nothing here is called from the engine's thread except
// through a call's end.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/run/engine.h"
#include "memory/base/status.h"
#include "memory/table/table_report.h"
#include "server/call_record.h"

namespace engram::server {

class Metrics {
 public:
  Metrics(const std::string& model_name, const std::string& version);
  ~Metrics();

  // Starts the scrape port. UNAVAILABLE when it cannot be bound. `refresh` of the engine's numbers
  // happens in observe_engine(), which the server calls once a second.
  memory::Status serve(const std::string& host, int port);
  int port() const;  // after serve()

  void set_engine(const engine::EngineInfo& info);
  void observe_engine(const engine::EngineStats& stats);
  void observe_tables(const std::vector<memory::TableReport>& reports);
  void set_draining(bool draining);
  void set_load(double share);  // of what is being loaded, 0 to 1
  void model_loaded(double seconds);

  void call_started();
  void call_ended(const CallRecord& record);
  // The other services: unary calls.
  void rpc_ended(const char* service, const char* method, memory::Code code, double seconds);
  void client_stalled();
  void tokenized(double seconds);

  // What a scrape answers.
  std::string text() const;

 private:
  struct Families;
  const std::unique_ptr<Families> families_;
};

}  // namespace engram::server
