#include "tools/bench/load_client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <utility>

#include "tools/bench/load_run.h"

namespace engram::tools::bench {
namespace {

constexpr int kMostReceiveBytes = 32 << 20;

std::shared_ptr<grpc::Channel> make_channel(const std::string& server) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
  arguments.SetMaxReceiveMessageSize(kMostReceiveBytes);
  // A server that starts anew is found again soon.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  return grpc::CreateCustomChannel(server, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

memory::Result<LoadClient> LoadClient::connect(
    const std::string& server, int connections, double timeout_s) {
  const auto deadline =
      std::chrono::system_clock::now() + std::chrono::duration_cast<std::chrono::milliseconds>(
                                             std::chrono::duration<double>(timeout_s));
  LoadRun::Channels channels;
  for (int i = 0; i < connections; ++i) channels.push_back(make_channel(server));
  for (const std::shared_ptr<grpc::Channel>& channel : channels) {
    if (!channel->WaitForConnected(deadline)) {
      return memory::unavailable("no connection to " + server);
    }
  }
  return LoadClient(std::move(channels));
}

LoadResult LoadClient::run(
    const std::vector<PlannedRequest>& plan,
    const std::vector<PlannedRequest>& probes,
    const LoadOptions& options) {
  return LoadRun(channels_, plan, probes, options).run();
}

}  // namespace engram::tools::bench
