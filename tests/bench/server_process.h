// engramd with the simulator instead of a model, started for a benchmark and ended with it. What
// goes wrong ends the benchmark with a line that says so.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <memory>
#include <string>
#include <vector>

namespace engram::bench {

[[noreturn]] void fail(const std::string& what);

class ServerProcess {
 public:
  // Returns when the server is ready, on a free port of 127.0.0.1.
  ServerProcess(const std::string& program, const std::vector<std::string>& flags);
  ~ServerProcess();
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // A connection of its own at each call.
  std::shared_ptr<grpc::Channel> connect() const;
  int port() const;
  // User and system time of all its threads.
  double cpu_seconds() const;

 private:
  void start(const std::string& program, const std::vector<std::string>& flags);
  void wait_until_ready();

  pid_t pid_ = 0;
  int log_ = -1;  // read end of its standard error
  std::string address_;
  mutable int next_connection_ = 0;
};

}  // namespace engram::bench
