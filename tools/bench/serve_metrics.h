// What a load run measured, from the records of its requests. Pure functions. The definitions are
// those of `vllm bench serve` where it has one; tools disagree, so here they are in full. All times
// of a request are taken by the client. "Completed" requests alone enter latencies and token
// counts, unless stated.
//
//   TTFT   first message with tokens - sent
//   E2EL   last message - sent
//   TPOT   (E2EL - TTFT) / (output tokens - 1), of requests with more than one output token
//   ITL    the gaps between the messages of a request, of all requests together. A message may
//          carry several tokens, so:
//   ITL per token: a gap before a message of k tokens counts as k gaps of a k-th of it each; tokens
//          that came together with the first one have none
//   client queue time: sent - planned, of all requests that were sent: what --max-concurrency and
//          the client itself delayed them
//   E2EL including the client queue: last message - planned. The figure that coordinated omission
//          hides: under a limit on concurrency a server that stalls also delays later sends.
//   lag    sent - ready, of all that were sent: the client's own lateness. Requests that were
//          ready at one moment (a burst, --request-rate inf) cannot all be sent at it, so they are
//          left out when the lag decides whether the client was the bottleneck
//   request throughput: completed requests / duration; output throughput: their output tokens /
//          duration; total token throughput: input and output tokens / duration
//   peak output: the most output tokens in one second of a clock that starts with the first send
//   peak concurrency: the most requests between sent and done at one moment, whatever became of
//          them; one that ends the moment another begins does not overlap it
//   goodput: completed requests that met every objective / duration; TPOT counts as met for those
//          with one output token
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "memory/base/status.h"
#include "tools/bench/records.h"

namespace engram::tools::bench {

// Milliseconds. All 0 when nothing was measured: `count` tells.
struct Distribution {
  int64_t count = 0;
  double mean = 0;
  double median = 0;
  double std = 0;
  double max = 0;
  std::vector<std::pair<double, double>> percentiles;  // (99, value), in the order asked for
};

// Service level objectives in milliseconds; -1: none.
struct Objectives {
  double ttft_ms = -1;
  double tpot_ms = -1;
  double e2el_ms = -1;
  bool any() const { return ttft_ms >= 0 || tpot_ms >= 0 || e2el_ms >= 0; }
};

// From the words of --goodput, as "ttft:200": INVALID_ARGUMENT for another name, a number that is
// none or negative, or a name given twice.
memory::Result<Objectives> parse_goodput(std::span<const std::string> words);

// "50,90,99.9", each in (0, 100]; INVALID_ARGUMENT otherwise.
memory::Result<std::vector<double>> parse_percentiles(const std::string& list);

// What the load generator itself used during the run.
struct ClientUse {
  double cpu_s = -1;  // of all its threads; -1: not known
  int threads = 1;    // that send and receive, and so may use one core each
};

struct MetricOptions {
  std::vector<double> percentiles = {99};
  Objectives objectives = {};
  // The client counts as the bottleneck when the lag's p99 or the share of its threads' time that
  // they computed is above these.
  double lag_limit_ms = 1;
  double cpu_limit = 0.9;
};

struct ServeMetrics {
  double duration_s = 0;
  int64_t completed = 0;
  int64_t failed = 0;
  int64_t cancelled = 0;  // by the client, on purpose
  int64_t not_sent = 0;   // planned, but the run ended before
  int64_t input_tokens = 0;
  int64_t output_tokens = 0;
  int64_t partial_output_tokens = 0;  // that came before a request was cancelled or failed
  double request_throughput = 0;      // requests/s
  double request_goodput = 0;         // requests/s; meaningful with objectives only
  double output_throughput = 0;       // tokens/s
  double total_token_throughput = 0;  // tokens/s
  double max_output_tokens_per_s = 0;
  int64_t max_concurrent_requests = 0;

  Distribution ttft;
  Distribution tpot;
  Distribution itl;
  Distribution itl_per_token;
  Distribution e2el;
  Distribution client_queue;
  Distribution e2el_with_queue;

  // Of all requests, whatever became of them.
  int64_t messages = 0;
  int64_t message_tokens = 0;
  int64_t bytes = 0;

  Distribution lag;
  double lag_p50_ms = 0;
  double lag_p99_ms = 0;
  double client_cpu_s = -1;  // -1: not known
  double client_cpu_us_per_message = -1;
  double client_cpu_share = -1;  // of the time of its threads
  bool client_bottleneck = false;
  std::string client_verdict;  // why, in one sentence; empty when it was none
};

// `duration_s`: from the start of the run to the last answer, positive unless nothing was sent.
ServeMetrics serve_metrics(
    std::span<const RequestRecord> records,
    double duration_s,
    const MetricOptions& options,
    const ClientUse& client);

// Requests of one token that were sent beside the load. Milliseconds; 0 where none was completed.
struct ProbeFigures {
  int64_t completed = 0;
  int64_t failed = 0;  // and cancelled
  double median_e2el_ms = 0;
  double p99_e2el_ms = 0;
  double max_e2el_ms = 0;
};
ProbeFigures probe_figures(std::span<const RequestRecord> probes);

const char* outcome_name(Outcome outcome);  // "completed"
bool was_sent(const RequestRecord& record);

// Of one request in seconds; -1 where it has none.
double ttft_of(const RequestRecord& record);
double tpot_of(const RequestRecord& record);
double e2el_of(const RequestRecord& record);
std::vector<double> itls_of(const RequestRecord& record);

}  // namespace engram::tools::bench
