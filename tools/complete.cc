// engram complete: one completion, streamed.
#include <engram/v1/completions.grpc.pb.h>
#include <grpcpp/grpcpp.h>
#include <pthread.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tools/command.h"
#include "tools/complete_output.h"

namespace engram::tools {
namespace {

struct CompleteArguments {
  std::string server;
  std::string prompt;
  std::string prompt_ids;
  std::string model;
  std::string request_id;
  std::string cache_salt;
  bool no_cache = false;
  bool no_special = false;
  bool keep_special = false;
  bool echo = false;
  bool ignore_eos = false;
  bool include_stop = false;
  bool json = false;
  bool stats = false;
  uint32_t n = 1;
  uint32_t max_tokens = 0;
  uint32_t min_tokens = 0;
  uint32_t truncate = 0;
  uint32_t logprobs = 0;
  uint32_t prompt_logprobs = 0;
  uint64_t seed = 0;
  float temperature = 1;
  float top_p = 1;
  float min_p = 0;
  int32_t top_k = 0;
  float repetition_penalty = 1;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  double timeout = 0;
  std::vector<std::string> stop;
  std::vector<uint32_t> stop_token_ids;
  std::vector<std::string> logit_bias;
};

// SIGINT cancels the call, a second one ends the program. The signal is blocked in every thread
// and waited for by one, since almost nothing may be called in a handler.
class InterruptWatch {
 public:
  explicit InterruptWatch(grpc::ClientContext* context) {
    std::thread([this, context] {
      sigset_t set = interrupt_set();
      int signal = 0;
      while (sigwait(&set, &signal) == 0) {
        if (interrupted_->exchange(true)) std::_Exit(kInterrupted);
        context->TryCancel();
      }
    }).detach();
  }
  // Before any thread is started.
  static void block() {
    const sigset_t set = interrupt_set();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
  }
  bool interrupted() const { return interrupted_->load(); }

 private:
  static sigset_t interrupt_set() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    return set;
  }

  // Shared with the thread, which lives as long as the process.
  std::shared_ptr<std::atomic<bool>> interrupted_ = std::make_shared<std::atomic<bool>>(false);
};

int set_prompt(const CompleteArguments& a, v1::CompleteRequest* request) {
  if (!a.prompt_ids.empty()) {
    if (!a.prompt.empty()) return report_usage("give a prompt or --prompt-ids, not both");
    std::vector<uint32_t> ids;
    if (!parse_ids(a.prompt_ids, &ids)) {
      return report_usage("--prompt-ids: expected ids such as 5,7,11, got " + a.prompt_ids);
    }
    request->mutable_token_ids()->mutable_ids()->Assign(ids.begin(), ids.end());
    return kDone;
  }
  if (a.prompt.empty()) return report_usage("a prompt is required (- reads standard input)");
  request->set_text(a.prompt == "-" ? read_input() : a.prompt);
  return kDone;
}

int set_bias(const CompleteArguments& a, v1::CompleteRequest* request) {
  for (const std::string& entry : a.logit_bias) {
    const size_t equals = entry.find('=');
    std::vector<uint32_t> id;
    char* end = nullptr;
    const float bias =
        equals == std::string::npos ? 0.f : std::strtof(entry.c_str() + equals + 1, &end);
    if (end == nullptr || *end != '\0' || end == entry.c_str() + equals + 1 ||
        !parse_ids(entry.substr(0, equals), &id) || id.size() != 1) {
      return report_usage("--logit-bias: expected ID=BIAS, got " + entry);
    }
    (*request->mutable_penalties()->mutable_logit_bias())[id[0]] = bias;
  }
  return kDone;
}

// Only what was given is set, so that the server's defaults hold for the rest.
void set_options(const CLI::App& app, const CompleteArguments& a, v1::CompleteRequest* request) {
  const auto given = [&app](const char* name) { return app.count(name) > 0; };
  v1::SamplingOptions* sampling = request->mutable_sampling();
  if (given("--n")) sampling->set_n(a.n);
  if (given("--temperature")) sampling->set_temperature(a.temperature);
  if (given("--top-p")) sampling->set_top_p(a.top_p);
  if (given("--top-k")) sampling->set_top_k(a.top_k);
  if (given("--min-p")) sampling->set_min_p(a.min_p);
  if (given("--seed")) sampling->set_seed(a.seed);
  v1::PenaltyOptions* penalties = request->mutable_penalties();
  if (given("--repetition-penalty")) penalties->set_repetition(a.repetition_penalty);
  if (given("--presence-penalty")) penalties->set_presence(a.presence_penalty);
  if (given("--frequency-penalty")) penalties->set_frequency(a.frequency_penalty);
  v1::StoppingOptions* stopping = request->mutable_stopping();
  if (given("--max-tokens")) stopping->set_max_tokens(a.max_tokens);
  if (given("--min-tokens")) stopping->set_min_tokens(a.min_tokens);
  for (const std::string& stop : a.stop) stopping->add_stop(stop);
  for (const uint32_t id : a.stop_token_ids) stopping->add_stop_token_ids(id);
  if (a.ignore_eos) stopping->set_ignore_eos(true);
  if (a.include_stop) stopping->set_include_stop_string(true);
  v1::OutputOptions* output = request->mutable_output();
  if (a.echo) output->set_echo(true);
  if (given("--logprobs")) output->set_logprobs(a.logprobs);
  if (given("--prompt-logprobs")) output->set_prompt_logprobs(a.prompt_logprobs);
  if (a.keep_special) output->set_skip_special_tokens(false);
  if (a.no_cache) request->mutable_cache()->set_bypass_prefix_cache(true);
  if (given("--cache-salt")) request->mutable_cache()->set_salt(a.cache_salt);
  if (a.no_special) request->set_add_special_tokens(false);
  if (given("--truncate-prompt-tokens")) request->set_truncate_prompt_tokens(a.truncate);
  if (given("--model")) request->set_model(a.model);
  if (given("--request-id")) request->set_request_id(a.request_id);
}

int complete(const CompleteArguments& a, const v1::CompleteRequest& request) {
  const auto begin = std::chrono::steady_clock::now();
  InterruptWatch::block();
  const auto stub = v1::Completions::NewStub(connect(a.server));
  // Outlives the watch's thread, which may use it until the process ends.
  auto* context = new grpc::ClientContext;
  if (a.timeout > 0) {
    const auto limit = std::chrono::duration_cast<std::chrono::microseconds>(
        std::chrono::duration<double>(a.timeout));
    context->set_deadline(std::chrono::system_clock::now() + limit);
  }
  const InterruptWatch watch(context);
  const auto reader = stub->StreamComplete(context, request);
  CompleteOutput output;
  v1::CompleteResponse message;
  bool any = false;
  while (reader->Read(&message)) {
    output.add(message, !a.json);
    any = true;
  }
  const grpc::Status status = reader->Finish();
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
  if (any && !a.json) output.print_choices();
  if (watch.interrupted()) return kInterrupted;
  if (!status.ok()) return report_failure(status, a.server);
  if (a.json) output.print_json();
  if (a.stats) output.print_stats(taken.count());
  return kDone;
}

void add_sampling_options(CLI::App& app, CompleteArguments* a) {
  const char* group = "Sampling";
  app.add_option("--n", a->n, "Choices [1]")->group(group);
  app.add_option("--temperature", a->temperature, "0 is greedy [1]")->group(group);
  app.add_option("--top-p", a->top_p, "Nucleus [1]")->group(group);
  app.add_option("--top-k", a->top_k, "0 and -1 are off [0]")->group(group);
  app.add_option("--min-p", a->min_p, "Least share of the best token's probability [0]")
      ->group(group);
  app.add_option("--seed", a->seed, "For the same answer every time")->group(group);
  app.add_option("--repetition-penalty", a->repetition_penalty, "1 is none [1]")->group(group);
  app.add_option("--presence-penalty", a->presence_penalty, "-2 to 2 [0]")->group(group);
  app.add_option("--frequency-penalty", a->frequency_penalty, "-2 to 2 [0]")->group(group);
  app.add_option("--logit-bias", a->logit_bias, "ID=BIAS; may be repeated")
      ->group(group)
      ->allow_extra_args(false);
  group = "Stopping";
  app.add_option("--max-tokens", a->max_tokens, "Default: to the end of the context")->group(group);
  app.add_option("--min-tokens", a->min_tokens, "No end before this many [0]")->group(group);
  app.add_option("--stop", a->stop, "Stop string; may be repeated")
      ->group(group)
      ->allow_extra_args(false);
  app.add_option("--stop-token-ids", a->stop_token_ids, "Such as 5,7,11")
      ->group(group)
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", a->ignore_eos, "Go on after end-of-sequence")->group(group);
  app.add_flag("--include-stop-str-in-output", a->include_stop, "Leave the stop string in")
      ->group(group);
}

void add_other_options(CLI::App& app, CompleteArguments* a) {
  const char* group = "Prompt";
  app.add_option("--prompt-ids", a->prompt_ids, "Token ids instead of text: 5,7,11")->group(group);
  app.add_flag("--no-add-special-tokens", a->no_special, "No begin-of-text in front")->group(group);
  app.add_option("--truncate-prompt-tokens", a->truncate, "Keep the last K tokens")->group(group);
  app.add_flag("--bypass-prefix-cache", a->no_cache, "Compute the whole prompt anew")->group(group);
  app.add_option("--cache-salt", a->cache_salt, "Share the prefix cache only under this salt")
      ->group(group);
  group = "Output";
  app.add_flag("--json", a->json, "One object per choice and line, at the end")->group(group);
  app.add_flag("--stats", a->stats, "Speed and n-gram traffic, to standard error")->group(group);
  app.add_flag("--echo", a->echo, "The prompt comes first")->group(group);
  app.add_option("--logprobs", a->logprobs, "K best beside the chosen token (--json)")
      ->group(group);
  app.add_option("--prompt-logprobs", a->prompt_logprobs, "The same for the prompt (--json)")
      ->group(group);
  app.add_flag("--no-skip-special-tokens", a->keep_special, "Special tokens are in the text")
      ->group(group);
  group = "Call";
  app.add_option("--model", a->model, "Name of the model [the one that is served]")->group(group);
  app.add_option("--request-id", a->request_id, "Name of the call in the server's log")
      ->group(group);
  app.add_option("--timeout", a->timeout, "Deadline in seconds [none]")->group(group);
}

}  // namespace

void add_complete_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command =
      app.add_subcommand("complete", "Complete a prompt; the text comes as it is made");
  auto a = std::make_shared<CompleteArguments>();
  command->add_option("prompt", a->prompt, "The prompt; - reads standard input");
  add_server_option(*command, &a->server);
  add_sampling_options(*command, a.get());
  add_other_options(*command, a.get());
  command->callback([command, a, invocation] {
    invocation->run = [command, a] {
      v1::CompleteRequest request;
      if (const int code = set_prompt(*a, &request); code != kDone) return code;
      if (const int code = set_bias(*a, &request); code != kDone) return code;
      set_options(*command, *a, &request);
      return complete(*a, request);
    };
  });
}

}  // namespace engram::tools
