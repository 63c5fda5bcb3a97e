// A table daemon in a child process. Make it before the test has threads of its own.
#pragma once

#include <signal.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "memory/table/table_daemon.h"
#include "memory/table/table_share.h"

namespace engram::tests {

class TableDaemon {
 public:
  explicit TableDaemon(memory::TableDaemonOptions options) : socket_(options.socket) {
    process_ = ::fork();
    ENGRAM_CHECK(process_ >= 0);
    if (process_ == 0) {
      options.log = [](const std::string&) {};
      const memory::Status status = memory::run_table_daemon(options, nullptr, stop_);
      if (!status.ok()) std::fprintf(stderr, "daemon: %s\n", status.to_string().c_str());
      ::_exit(status.ok() ? 0 : 1);
    }
  }
  ~TableDaemon() {
    stop();
    ::close(stop_);
  }
  TableDaemon(const TableDaemon&) = delete;
  TableDaemon& operator=(const TableDaemon&) = delete;

  pid_t process() const { return process_; }
  const std::string& socket() const { return socket_; }

  // Whether it answers within ten seconds.
  bool answers() const {
    for (int i = 0; i < 1000; ++i) {
      if (memory::list_shared_tables(socket_).ok()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
  // Each returns the exit code, or minus the signal that ended the daemon.
  int stop() {
    if (process_ > 0) ENGRAM_CHECK(::eventfd_write(stop_, 1) == 0);
    return wait();
  }
  int kill() {
    if (process_ > 0) ::kill(process_, SIGKILL);
    return wait();
  }
  // Until it ends on its own.
  int wait() {
    if (process_ <= 0) return 0;
    int state = 0;
    ENGRAM_CHECK(::waitpid(process_, &state, 0) == process_);
    process_ = -1;
    return WIFEXITED(state) ? WEXITSTATUS(state) : -WTERMSIG(state);
  }

 private:
  const std::string socket_;
  pid_t process_ = -1;
  // Not a pipe: processes made later inherit it, and closing it would tell nobody.
  const int stop_ = ::eventfd(0, EFD_CLOEXEC);
};

}  // namespace engram::tests
