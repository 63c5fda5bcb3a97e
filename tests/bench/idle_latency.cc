#include "tests/bench/idle_latency.h"

#include <engram/v1/completions.grpc.pb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "tests/bench/http2_client.h"
#include "tests/bench/latency.h"
#include "tests/bench/server_process.h"

namespace engram::bench {
namespace {

using Clock = std::chrono::steady_clock;

enum Client { kEcho, kHttp2, kGrpc, kClients };
constexpr std::array<const char*, kClients> kClientNames = {
    "echo over TCP (no server)", "least HTTP/2 client", "gRPC C++ client"};

struct Plan {
  int servers;
  int calls;  // of each client on each server
  double pause_low;
  double pause_high;
};

// A process that sends back what it gets.
class EchoProcess {
 public:
  EchoProcess() {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t bytes = sizeof(address);
    if (bind(listener, reinterpret_cast<sockaddr*>(&address), bytes) != 0 ||
        listen(listener, 1) != 0 ||
        getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) {
      fail("no port for the echo");
    }
    pid_ = fork();
    if (pid_ == 0) serve(listener);
    close(listener);
    socket_ = connect_to(ntohs(address.sin_port));
  }
  ~EchoProcess() {
    close(socket_);
    kill(pid_, SIGTERM);  // later children hold copies of the socket
    waitpid(pid_, nullptr, 0);
  }
  EchoProcess(const EchoProcess&) = delete;
  EchoProcess& operator=(const EchoProcess&) = delete;

  double call() {
    const Clock::time_point begin = Clock::now();
    char byte = 1;
    if (send(socket_, &byte, 1, MSG_NOSIGNAL) != 1 || recv(socket_, &byte, 1, 0) != 1) {
      fail("no echo");
    }
    return milliseconds_since(begin);
  }

 private:
  [[noreturn]] static void serve(int listener) {
    const int client = accept(listener, nullptr, nullptr);
    const int on = 1;
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    char byte;
    while (recv(client, &byte, 1, 0) == 1) send(client, &byte, 1, MSG_NOSIGNAL);
    _exit(0);
  }

  pid_t pid_ = 0;
  int socket_ = -1;
};

// All clients of one server.
class Clients {
 public:
  Clients(const ServerProcess& server, EchoProcess* echo)
      : echo_(echo), http2_(server.port()), stub_(v1::Completions::NewStub(server.connect())) {
    request_of(1).SerializeToString(&request_);
  }
  double call(Client client) {
    switch (client) {
      case kEcho:
        return echo_->call();
      case kHttp2:
        return http2_.call("/engram.v1.Completions/StreamComplete", request_);
      default:
        return time_stream(stub_.get());
    }
  }

 private:
  EchoProcess* echo_;
  Http2Client http2_;
  std::unique_ptr<v1::Completions::Stub> stub_;
  std::string request_;
};

using Echoes = std::vector<std::unique_ptr<EchoProcess>>;

Echoes make_echoes(int count) {
  Echoes echoes;
  for (int i = 0; i < count; ++i) echoes.push_back(std::make_unique<EchoProcess>());
  return echoes;
}

// Servers that are idle together, each with clients and a thread of its own.
class IdleServers {
 public:
  IdleServers(
      const std::string& engramd,
      const std::vector<std::string>& flags,
      const Plan& plan,
      Echoes echoes)
      : plan_(plan), echoes_(std::move(echoes)) {
    for (int i = 0; i < plan.servers; ++i) {
      servers_.push_back(std::make_unique<ServerProcess>(engramd, flags));
      EchoProcess* echo = echoes_.at(static_cast<size_t>(i)).get();
      clients_.push_back(std::make_unique<Clients>(*servers_.back(), echo));
    }
  }
  void start(uint32_t seed) {
    for (const std::unique_ptr<Clients>& clients : clients_) {
      threads_.emplace_back([this, &clients, random = std::mt19937(seed++)]() mutable {
        run(clients.get(), &random);
      });
    }
  }
  void join() {
    for (std::thread& thread : threads_) thread.join();
  }
  void print(const std::string& what) const {
    for (size_t i = 0; i < kClients; ++i) print_latency(what + ", " + kClientNames[i], ms_[i]);
  }

 private:
  void run(Clients* clients, std::mt19937* random) {
    std::uniform_real_distribution<double> pause(plan_.pause_low, plan_.pause_high);
    for (int i = 0; i < kClients; ++i) clients->call(static_cast<Client>(i));
    for (int i = 0; i < plan_.calls * kClients; ++i) {
      std::this_thread::sleep_for(std::chrono::duration<double>(pause(*random)));
      const size_t client = static_cast<size_t>(i % kClients);
      const double ms = clients->call(static_cast<Client>(client));
      const std::lock_guard lock(mu_);
      ms_[client].push_back(ms);
    }
  }

  const Plan plan_;
  const Echoes echoes_;
  std::vector<std::unique_ptr<ServerProcess>> servers_;
  std::vector<std::unique_ptr<Clients>> clients_;
  std::vector<std::thread> threads_;
  std::mutex mu_;
  std::array<std::vector<double>, kClients> ms_;  // guarded by mu_
};

}  // namespace

void measure_idle_latency(const std::string& engramd, bool smoke) {
  const Plan plan = smoke ? Plan{2, 2, 0.1, 0.2} : Plan{24, 10, 1.0, 3.0};
  const std::string pause = smoke ? "after 0.1 to 0.2 s" : "after 1 to 3 s";
  Plan fewer = plan;
  fewer.servers /= smoke ? 2 : 3;
  // Before any thread of gRPC: the echo is a fork without exec.
  Echoes echoes = make_echoes(plan.servers);
  Echoes other_echoes = make_echoes(fewer.servers);
  IdleServers servers(engramd, {}, plan, std::move(echoes));
  IdleServers silent(engramd, {"--grpc-self-ping=0"}, fewer, std::move(other_echoes));
  servers.start(1);
  silent.start(1001);
  servers.join();
  silent.join();
  servers.print(pause);
  silent.print(pause + ", no self-ping");
}

}  // namespace engram::bench
