// engram bench serve: what a server delivers under a load that follows a plan.
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tools/bench/bench.h"
#include "tools/bench/load_client.h"
#include "tools/bench/load_plan.h"
#include "tools/bench/serve_flags.h"
#include "tools/bench/serve_report.h"
#include "tools/bench/serve_saving.h"
#include "tools/bench/server_facts.h"
#include "tools/command.h"
#include "tools/interrupt.h"
#include "tools/progress_line.h"

namespace engram::tools::bench {
namespace {

constexpr double kConnectSeconds = 10;
constexpr int kMostErrors = 10;  // kinds that are printed

constexpr const char* kDefinitions =
    "What is measured, by the client, of requests that completed:\n"
    "  TTFT   first message with tokens - sent\n"
    "  E2EL   last message - sent\n"
    "  TPOT   (E2EL - TTFT) / (output tokens - 1), of requests with more than one\n"
    "  ITL    the gaps between the messages of a request, of all requests together. A message may\n"
    "         carry several tokens: ITL per token counts a gap before k tokens as k of a k-th "
    "each\n"
    "  client queue time   sent - planned: what --max-concurrency and the client itself held back\n"
    "  E2EL incl. queue    last message - planned: what a user feels who came at the planned time\n"
    "  lag    sent - when it could have been: the client's own lateness, on which nothing else\n"
    "         depends; when it is large, or the client computes all the time, the report says so\n"
    "  throughput   completed requests, their output tokens, their input and output tokens, by\n"
    "         the time from the start to the last answer\n"
    "  goodput      completed requests per second that met every objective of --goodput\n"
    "  peaks        most output tokens in a second; most requests in flight at one moment\n"
    "Requests are sent when the plan says so, whatever became of the earlier ones: a server that\n"
    "stands still is seen by every request that comes meanwhile.\n"
    "Ctrl-C ends the run and reports what there is. Exit codes: 0 done, 1 a name was wrong, the\n"
    "server went away in the run, nothing completed or the result could not be saved, 2 wrong\n"
    "usage, 3 no server answered, 130 interrupted.";

// A step that may end the command: its exit code.
using Ended = std::optional<int>;

int fail(const memory::Status& status) {
  std::fprintf(stderr, "engram: %s\n", status.message().c_str());
  return status.code() == memory::Code::kInvalidArgument ? kUsage : kFailed;
}

// One `engram bench serve`.
class Serve {
 public:
  explicit Serve(const ServeFlags& flags) : f_(flags), facts_(flags.server) {}

  int run() {
    interrupted_ = watch_interrupts();
    if (const memory::Status status = prepare_saving(f_); !status.ok()) return fail(status);
    for (const auto step :
         {&Serve::meet_server, &Serve::make_plan, &Serve::open, &Serve::warm_up}) {
      if (const Ended ended = (this->*step)()) return *ended;
    }
    measure();
    return report();
  }

 private:
  Ended meet_server() {
    if (f_.ready_check_timeout_s > 0) {
      const grpc::Status status =
          facts_.wait_until_ready(f_.ready_check_timeout_s, f_.patient, interrupted_);
      if (*interrupted_) return kInterrupted;
      if (!status.ok()) return report_failure(status, f_.server);
    }
    const grpc::Status status = facts_.find_model(f_.model, &model_);
    if (!status.ok()) return report_failure(status, f_.server);
    return {};
  }

  Ended make_plan() {
    DatasetOptions options = f_.dataset;
    options.vocab_size = model_.vocab_size;
    options.excluded_ids = model_.special;
    options.trace_max_tokens = model_.max_model_len;
    memory::Result<Dataset> dataset = load_dataset(
        options, [this](const std::string& text) { return facts_.count_tokens(model_.id, text); });
    if (!dataset.ok()) return fail(dataset.status());
    if (dataset.value().skipped > 0) {
      std::fprintf(
          stderr, "engram: %s: %lld entries are left out: too long, too short or not answered\n",
          options.path.c_str(), static_cast<long long>(dataset.value().skipped));
    }
    plan_ = std::move(dataset.value().requests);
    timed_ = dataset.value().timed;
    if (const Ended ended = leave_out()) return ended;
    if (timed_) {
      set_replay(f_.trace_speed, &plan_);
    } else {
      set_arrivals(f_.arrivals, &plan_);
    }
    disturb(f_.disturbances, f_.arrivals.seed, &plan_);
    if (f_.probe_rate > 0) {
      probes_ = probe_plan(model_.vocab_size, model_.max_model_len, f_.arrivals.seed);
    }
    return {};
  }

  Ended leave_out() {
    if (plan_.empty()) return report_usage("the dataset has no request");
    const long long limit = model_.max_model_len;
    const long long count = leave_out_too_long(limit, &plan_);
    if (plan_.empty()) {
      return report_usage(
          "all prompts are longer than the server takes: " + std::to_string(limit) +
          " tokens, prompt and answer together");
    }
    if (count > 0) {
      std::fprintf(
          stderr, "engram: %lld requests are left out, longer than the server takes (%lld)\n",
          count, limit);
    }
    return {};
  }

  Ended open() {
    memory::Result<LoadClient> client =
        LoadClient::connect(f_.server, f_.connections, kConnectSeconds);
    if (*interrupted_) return kInterrupted;
    if (!client.ok()) {
      std::fprintf(stderr, "engram: %s\n", client.status().message().c_str());
      return kUnreachable;
    }
    client_.emplace(std::move(client).value());
    return {};
  }

  Ended warm_up() {
    if (f_.num_warmups == 0) return {};
    LoadOptions options = load_options();
    if (!f_.request_id_prefix.empty()) options.request_id_prefix += "warmup-";
    const LoadResult result =
        run_load("warm-up", warm_up_plan(plan_, f_.num_warmups), {}, std::move(options));
    if (result.interrupted) return kInterrupted;
    for (const RequestRecord& record : result.requests) {
      if (record.outcome == Outcome::kCompleted) return {};
    }
    std::fprintf(
        stderr, "engram: no warm-up request completed: %s\n", result.requests[0].error.c_str());
    return kFailed;
  }

  void measure() {
    facts_.counters(&run_.server_before);
    LoadOptions options = load_options();
    options.probe_rate = f_.probe_rate;
    options.keep_text = f_.save_detailed;
    result_ = run_load("requests", plan_, probes_, std::move(options));
    if (result_.server_lost.empty()) facts_.counters(&run_.server_after);
  }

  LoadOptions load_options() const {
    LoadOptions options;
    options.model = f_.model;
    options.max_concurrency = f_.max_concurrency;
    options.request_timeout_s = f_.request_timeout_s;
    options.request_id_prefix = f_.request_id_prefix;
    options.sampling = f_.sampling;
    options.interrupted = interrupted_;
    return options;
  }

  LoadResult run_load(
      const char* what,
      const std::vector<PlannedRequest>& plan,
      const std::vector<PlannedRequest>& probes,
      LoadOptions options) {
    if (f_.no_progress) return client_->run(plan, probes, options);
    ProgressLine line = ProgressLine::of_count(what, static_cast<int64_t>(plan.size()));
    options.on_progress = [&line](const LoadProgress& now) {
      std::string note = std::to_string(now.running) + " in flight";
      if (now.waiting > 0) note += ", " + std::to_string(now.waiting) + " waiting";
      if (now.failed > 0) note += ", " + std::to_string(now.failed) + " failed";
      line.update(now.over, note);
    };
    return client_->run(plan, probes, options);
  }

  int report() {
    describe_run();
    MetricOptions options;
    options.percentiles = report_percentiles(f_.percentiles);
    options.objectives = f_.objectives;
    const ServeMetrics metrics = serve_metrics(
        result_.requests, result_.duration_s, options, {result_.client_cpu_s, result_.threads});
    std::fputs(console_block(run_, metrics).c_str(), stdout);
    std::fflush(stdout);
    print_errors();
    if (metrics.client_bottleneck && !result_.priority) {
      std::fprintf(
          stderr,
          "engram: the sending thread had no priority (CAP_SYS_NICE), so that others on this "
          "machine held it up\n");
    }
    const memory::Status saved = save_result(f_, run_, metrics, result_.requests);
    if (!saved.ok()) {
      std::fprintf(stderr, "engram: the result was not saved: %s\n", saved.message().c_str());
    }
    if (result_.interrupted || !result_.server_lost.empty()) {
      const std::string why =
          result_.interrupted ? "interrupted" : f_.server + " went away: " + result_.server_lost;
      std::fprintf(
          stderr, "engram: %s; %lld of %zu requests were not sent\n", why.c_str(),
          static_cast<long long>(metrics.not_sent), plan_.size());
      return result_.interrupted ? kInterrupted : kFailed;
    }
    return saved.ok() && metrics.completed + metrics.cancelled > 0 ? kDone : kFailed;
  }

  void describe_run() {
    run_.started_at = result_.started_at;
    run_.model_id = model_.id;
    run_.tokenizer_id = model_.id;
    run_.label = f_.label;
    run_.num_prompts = static_cast<int64_t>(plan_.size());
    run_.max_concurrency = f_.max_concurrency;
    run_.arrivals = f_.arrivals;
    run_.timed_trace = timed_;
    if (!timed_) {
      std::vector<double> times;
      for (const PlannedRequest& request : plan_) times.push_back(request.at_s);
      run_.rate_changes = rate_changes(f_.arrivals, times);
    }
    run_.metadata = f_.metadata;
    run_.objectives = f_.objectives;
    run_.percentiles = f_.percentiles;
    run_.percentile_metrics = f_.shown_metrics;
    run_.probes = std::move(result_.probes);
    run_.probe_rate = f_.probe_rate;
    run_.engram_version = ENGRAM_VERSION;
    run_.command = command_line();
    run_.dataset = f_.dataset_words;
    run_.interrupted = result_.interrupted;
    run_.server_lost = result_.server_lost;
    run_.save_detailed = f_.save_detailed;
  }

  // Each kind once, with how often it came.
  void print_errors() const {
    std::map<std::string, int64_t> kinds;
    for (const RequestRecord& record : result_.requests) {
      if (record.outcome == Outcome::kFailed) ++kinds[record.error];
    }
    int printed = 0;
    for (const auto& [error, count] : kinds) {
      if (++printed > kMostErrors) break;
      std::fprintf(
          stderr, "engram: %lld failed: %s\n", static_cast<long long>(count), error.c_str());
    }
    if (printed > kMostErrors) {
      std::fprintf(stderr, "engram: and %zu other errors\n", kinds.size() - kMostErrors);
    }
  }

  const ServeFlags& f_;
  const std::atomic<bool>* interrupted_ = nullptr;
  ServerFacts facts_;
  ServedModel model_;
  std::vector<PlannedRequest> plan_;
  bool timed_ = false;  // by the trace
  std::vector<PlannedRequest> probes_;
  std::optional<LoadClient> client_;
  LoadResult result_;
  ServeRun run_;
};

}  // namespace

void add_serve_command(CLI::App& bench, Invocation* invocation) {
  CLI::App* command = bench.add_subcommand(
      "serve", "Send requests to a server at planned times, and measure what comes back");
  command->footer(kDefinitions);
  auto flags = std::make_shared<ServeFlags>();
  add_serve_flags(*command, flags.get());
  command->callback([command, flags, invocation] {
    invocation->run = [command, flags] {
      const memory::Status status = check_serve_flags(*command, flags.get());
      if (!status.ok()) return report_usage(status.message());
      return Serve(*flags).run();
    };
  });
}

}  // namespace engram::tools::bench
