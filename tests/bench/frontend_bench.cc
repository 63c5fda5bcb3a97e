// What the front end costs, with the simulator instead of a model: messages per second and the
// server's CPU time for each, and the latency that the way from the engine to the client adds, in a
// row and after a pause. Starts engramd itself; the client shares the machine with it.
//
//   frontend_bench --engramd FILE [--smoke]
#include <engram/v1/completions.grpc.pb.h>
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "frontend_bench: %s\n", what.c_str());
  std::exit(1);
}

// engramd with the simulator, on a free port.
class ServerProcess {
 public:
  ServerProcess(const std::string& program, const std::vector<std::string>& flags) {
    int ends[2];
    if (pipe(ends) != 0) fail("no pipe");
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
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
      execv(program.c_str(), argv.data());
      _exit(127);
    }
    close(ends[1]);
    log_ = ends[0];
    wait_until_ready();
  }
  ~ServerProcess() {
    kill(pid_, SIGTERM);
    int status = 0;
    waitpid(pid_, &status, 0);
    close(log_);
    if (status != 0) fail("engramd ended with status " + std::to_string(status));
  }

  std::shared_ptr<grpc::Channel> connect() const {
    grpc::ChannelArguments arguments;
    arguments.SetInt("connection", next_connection_++);  // no sharing of connections
    return grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  }

  double cpu_seconds() const {
    std::ifstream stat("/proc/" + std::to_string(pid_) + "/stat");
    std::string word;
    double ticks = 0;
    for (int field = 1; stat >> word; ++field) {
      if (field == 14 || field == 15) ticks += std::atof(word.c_str());
    }
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }

 private:
  void wait_until_ready() {
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

  pid_t pid_ = 0;
  int log_ = -1;
  std::string address_;
  mutable int next_connection_ = 0;
};

// Counts calls that are still going on.
class Pending {
 public:
  void add() {
    const std::lock_guard lock(mu_);
    ++count_;
  }
  void done() {
    const std::lock_guard lock(mu_);
    if (--count_ == 0) zero_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mu_);
    zero_.wait(lock, [this] { return count_ == 0; });
  }

 private:
  std::mutex mu_;
  std::condition_variable zero_;
  int64_t count_ = 0;  // guarded by mu_
};

// A stream that counts what comes and the times between.
class Reader : public grpc::ClientReadReactor<v1::CompleteResponse> {
 public:
  Reader(v1::Completions::Stub* stub, const v1::CompleteRequest& request, Pending* pending)
      : request_(request), pending_(pending) {
    pending->add();
    stub->async()->StreamComplete(&context_, &request_, this);
    StartRead(&message_);
    StartCall();
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    const Clock::time_point now = Clock::now();
    if (messages > 0) {
      gaps_ms.push_back(std::chrono::duration<double, std::milli>(now - last_).count());
    }
    last_ = now;
    ++messages;
    for (const v1::Choice& choice : message_.choices()) tokens += choice.token_ids_size();
    StartRead(&message_);
  }
  void OnDone(const grpc::Status& status) override {
    if (!status.ok()) fail(status.error_message());
    pending_->done();
  }

  int64_t messages = 0;
  int64_t tokens = 0;
  std::vector<double> gaps_ms;

 private:
  grpc::ClientContext context_;
  const v1::CompleteRequest request_;
  v1::CompleteResponse message_;
  Pending* pending_;
  Clock::time_point last_;
};

v1::CompleteRequest request_of(int64_t tokens) {
  v1::CompleteRequest request;
  request.set_text("benchmark");
  request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(tokens));
  return request;
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = share * static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(rank + 0.5)];
}

struct Load {
  int streams;
  int connections;
  int64_t tokens;  // per stream
  double step_ms;
};

void print_throughput(const std::string& engramd, const Load& load) {
  ServerProcess server(engramd, {"--fake-step-ms=" + std::to_string(load.step_ms)});
  std::vector<std::unique_ptr<v1::Completions::Stub>> stubs;
  for (int i = 0; i < load.connections; ++i) {
    stubs.push_back(v1::Completions::NewStub(server.connect()));
    grpc::ClientContext context;
    v1::CompleteResponse response;
    if (!stubs.back()->Complete(&context, request_of(1), &response).ok()) fail("no answer");
  }
  Pending pending;
  const double cpu = server.cpu_seconds();
  const Clock::time_point begin = Clock::now();
  std::vector<std::unique_ptr<Reader>> readers;
  for (int i = 0; i < load.streams; ++i) {
    v1::Completions::Stub* stub = stubs[static_cast<size_t>(i % load.connections)].get();
    readers.push_back(std::make_unique<Reader>(stub, request_of(load.tokens), &pending));
  }
  pending.wait();
  const double taken = seconds_since(begin);
  const double used = server.cpu_seconds() - cpu;
  double messages = 0;
  double tokens = 0;
  std::vector<double> gaps;
  for (const std::unique_ptr<Reader>& reader : readers) {
    messages += static_cast<double>(reader->messages);
    tokens += static_cast<double>(reader->tokens);
    gaps.insert(gaps.end(), reader->gaps_ms.begin(), reader->gaps_ms.end());
  }
  const double wanted = static_cast<double>(load.streams) * static_cast<double>(load.tokens);
  if (tokens != wanted) fail("tokens were lost or doubled");
  std::printf(
      "stream  %4d streams %3d connections  step %5.2f ms  %8.0f messages/s  %9.0f tokens/s  "
      "%5.2f tokens/message  %5.2f us server CPU/message  gap p50 %.2f p99 %.2f ms\n",
      load.streams, load.connections, load.step_ms, messages / taken, tokens / taken,
      tokens / messages, used / messages * 1e6, quantile(gaps, 0.5), quantile(gaps, 0.99));
  std::fflush(stdout);
}

// One call after another: open, one token, status. The simulator answers at once, so the whole
// time is the front end's, the client's and the loopback's.
std::vector<double> time_calls(
    v1::Completions::Stub* stub, int calls, double pause_low, double pause_high, uint32_t seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> pause(pause_low, pause_high);
  std::vector<double> ms;
  for (int i = 0; i < calls; ++i) {
    if (pause_high > 0) std::this_thread::sleep_for(std::chrono::duration<double>(pause(random)));
    const Clock::time_point begin = Clock::now();
    grpc::ClientContext context;
    v1::CompleteResponse message;
    const auto reader = stub->StreamComplete(&context, request_of(1));
    if (!reader->Read(&message)) fail("no message");
    ms.push_back(seconds_since(begin) * 1e3);  // the first token is here
    while (reader->Read(&message)) {
    }
    if (!reader->Finish().ok()) fail("no status");
  }
  return ms;
}

void print_latency(const char* name, const std::vector<double>& ms) {
  std::printf(
      "latency %-34s %4zu calls  p50 %.2f  p90 %.2f  p99 %.2f  max %.2f ms\n", name, ms.size(),
      quantile(ms, 0.5), quantile(ms, 0.9), quantile(ms, 0.99), quantile(ms, 1.0));
  std::fflush(stdout);
}

void measure_latency(
    const std::string& engramd,
    const char* name,
    int clients,
    int calls,
    double pause_low,
    double pause_high,
    const std::vector<std::string>& flags) {
  // A server per client, so that no client keeps another one's server awake.
  std::vector<std::unique_ptr<ServerProcess>> servers;
  for (int i = 0; i < clients; ++i) {
    servers.push_back(std::make_unique<ServerProcess>(engramd, flags));
  }
  std::vector<std::vector<double>> results(static_cast<size_t>(clients));
  std::vector<std::thread> threads;
  for (size_t i = 0; i < results.size(); ++i) {
    threads.emplace_back([&, i] {
      const auto stub = v1::Completions::NewStub(servers[i]->connect());
      time_calls(stub.get(), 20, 0, 0, 0);
      results[i] =
          time_calls(stub.get(), calls, pause_low, pause_high, static_cast<uint32_t>(i + 1));
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::vector<double> all;
  for (const std::vector<double>& one : results) all.insert(all.end(), one.begin(), one.end());
  print_latency(name, all);
}

int run(int argc, char** argv) {
  std::string engramd;
  bool smoke = false;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--smoke") == 0) {
      smoke = true;
    } else if (std::strcmp(argv[i], "--engramd") == 0 && i + 1 < argc) {
      engramd = argv[++i];
    } else {
      fail("usage: frontend_bench --engramd FILE [--smoke]");
    }
  }
  if (engramd.empty()) fail("--engramd FILE is required");
  const int64_t scale = smoke ? 50 : 1;
  const std::vector<Load> loads = {{1, 1, 20000, 0.02}, {64, 1, 4000, 0.5},   {64, 4, 4000, 0.5},
                                   {256, 4, 2000, 2.0}, {1024, 16, 500, 8.0}, {64, 1, 2000, 2.0}};
  for (Load load : loads) {
    load.tokens = std::max<int64_t>(10, load.tokens / scale);
    print_throughput(engramd, load);
  }
  const int clients = smoke ? 1 : 4;
  measure_latency(engramd, "one call after another", 1, smoke ? 20 : 2000, 0, 0, {});
  if (smoke) {
    measure_latency(engramd, "after 0.1 to 0.2 s", clients, 5, 0.1, 0.2, {});
    return 0;
  }
  measure_latency(engramd, "after 1 to 3 s", clients, 12, 1.0, 3.0, {});
  measure_latency(
      engramd, "after 1 to 3 s, without self-ping", clients, 8, 1.0, 3.0, {"--grpc-self-ping=0"});
  return 0;
}

}  // namespace
}  // namespace engram::bench

int main(int argc, char** argv) {
  return engram::bench::run(argc, argv);
}
