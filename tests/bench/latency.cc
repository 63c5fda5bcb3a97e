#include "tests/bench/latency.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <cstdio>

#include "tests/bench/server_process.h"

namespace engram::bench {

double milliseconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin)
      .count();
}

double quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const double rank = share * static_cast<double>(values.size() - 1);
  return values[static_cast<size_t>(rank + 0.5)];
}

v1::CompleteRequest request_of(int64_t tokens) {
  v1::CompleteRequest request;
  request.set_text("benchmark");
  request.mutable_stopping()->set_max_tokens(static_cast<uint32_t>(tokens));
  return request;
}

double time_stream(v1::Completions::Stub* stub) {
  const std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
  grpc::ClientContext context;
  v1::CompleteResponse message;
  const auto reader = stub->StreamComplete(&context, request_of(1));
  if (!reader->Read(&message)) fail("no message");
  const double ms = milliseconds_since(begin);
  while (reader->Read(&message)) {
  }
  if (!reader->Finish().ok()) fail("no status");
  return ms;
}

void print_latency(const std::string& name, const std::vector<double>& ms) {
  std::printf(
      "latency %-46s %4zu calls  p50 %.2f  p90 %.2f  p99 %.2f  max %.2f ms\n", name.c_str(),
      ms.size(), quantile(ms, 0.5), quantile(ms, 0.9), quantile(ms, 0.99), quantile(ms, 1.0));
  std::fflush(stdout);
}

}  // namespace engram::bench
