#include "tests/bench/server_process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

namespace engram::bench {

void fail(const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, what.c_str());
  std::exit(1);
}

ServerProcess::ServerProcess(const std::string& program, const std::vector<std::string>& flags) {
  start(program, flags);
  wait_until_ready();
}

void ServerProcess::start(const std::string& program, const std::vector<std::string>& flags) {
  std::vector<std::string> words = {program,
                                    "--engine=fake",
                                    "--port=0",
                                    "--no-metrics",
                                    "--no-log-requests",
                                    "--no-log-stats",
                                    "--max-num-seqs=4096",
                                    "--log-format=json"};
  words.insert(words.end(), flags.begin(), flags.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) fail("no pipe");
  pid_ = fork();
  if (pid_ < 0) fail("no process");
  if (pid_ == 0) {
    dup2(ends[1], STDERR_FILENO);
    execv(argv[0], argv.data());
    _exit(127);
  }
  close(ends[1]);
  log_ = ends[0];
}

ServerProcess::~ServerProcess() {
  kill(pid_, SIGTERM);
  int status = 0;
  waitpid(pid_, &status, 0);
  close(log_);
  if (status != 0) fail("engramd ended with status " + std::to_string(status));
}

std::shared_ptr<grpc::Channel> ServerProcess::connect() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt("connection", next_connection_++);  // no sharing of connections
  return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
}

int ServerProcess::port() const {
  return std::atoi(address_.c_str() + address_.rfind(':') + 1);
}

double ServerProcess::cpu_seconds() const {
  std::ifstream stat("/proc/" + std::to_string(pid_) + "/stat");
  std::string word;
  double ticks = 0;
  for (int field = 1; stat >> word; ++field) {
    if (field == 14 || field == 15) ticks += std::atof(word.c_str());
  }
  return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
}

void ServerProcess::wait_until_ready() {
  std::string text;
  char buffer[4096];
  while (text.find("\"message\":\"ready\"") == std::string::npos) {
    const ssize_t count = read(log_, buffer, sizeof(buffer));
    if (count <= 0) fail("engramd did not start: " + text);
    text.append(buffer, static_cast<size_t>(count));
  }
  const std::string key = "\"address\":\"";
  const size_t begin = text.find(key) + key.size();
  address_ = text.substr(begin, text.find('"', begin) - begin);
}

}  // namespace engram::bench
