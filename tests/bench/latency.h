// Times of single calls, shared by the latency cases of frontend_bench.
#pragma once

#include <engram/v1/completions.grpc.pb.h>

#include <chrono>
#include <string>
#include <vector>

namespace engram::bench {

double milliseconds_since(std::chrono::steady_clock::time_point begin);

// 0 for no values.
double quantile(std::vector<double> values, double share);

v1::CompleteRequest request_of(int64_t tokens);

// One stream with one token: milliseconds until that token was here. The simulator answers at once,
// so the whole time is the front end's, the client's and the loopback's.
double time_stream(v1::Completions::Stub* stub);

void print_latency(const std::string& name, const std::vector<double>& ms);

}  // namespace engram::bench
