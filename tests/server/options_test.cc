// Where values come from, and what wrong ones get.
#include "server/options.h"

#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace engram::server {
namespace {

using Variables = std::map<std::string, std::string>;

memory::Result<ParsedOptions> parse(
    const std::vector<std::string>& arguments, const Variables& variables) {
  return parse_options(arguments, [&variables](const char* name) -> const char* {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

Options must_parse(const std::vector<std::string>& arguments, const Variables& variables) {
  const memory::Result<ParsedOptions> parsed = parse(arguments, variables);
  CAPTURE(parsed.status().to_string());
  REQUIRE(parsed.ok());
  return parsed.value().options;
}

std::string refusal(const std::vector<std::string>& arguments, const Variables& variables) {
  const memory::Result<ParsedOptions> parsed = parse(arguments, variables);
  REQUIRE(!parsed.ok());
  return parsed.status().message();
}

// A file that is gone at the end of the test.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& text)
      : path_("options_test." + std::to_string(getpid()) + ".yaml") {
    std::ofstream(path_) << text;
  }
  ~TemporaryFile() { std::remove(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

bool names(const std::string& message, const std::string& word) {
  return message.find(word) != std::string::npos;
}

}  // namespace

TEST_CASE("options: defaults", "[options]") {
  const Options o = must_parse({"--model", "some/where/demo/"}, {});
  CHECK(o.host == "127.0.0.1");
  CHECK(o.port == 8001);
  CHECK(o.metrics_port == 8002);
  CHECK(o.served_model_names == std::vector<std::string>{"demo"});
  CHECK(o.shutdown_timeout == Approx(45));
  CHECK(o.engine.enable_prefix_caching);
  CHECK(o.engine.max_model_len == 0);
}

TEST_CASE("options: the names of other servers", "[options]") {
  CHECK(must_parse({"positional"}, {}).engine.model == "positional");
  CHECK(must_parse({"-m", "x"}, {}).engine.model == "x");
  CHECK(must_parse({"--model-path=x"}, {}).engine.model == "x");
  CHECK(must_parse({"x", "-c", "32k"}, {}).engine.max_model_len == 32768);
  CHECK(must_parse({"x", "--context-length", "1M"}, {}).engine.max_model_len == 1 << 20);
  CHECK(must_parse({"x", "--max-model-len=auto"}, {}).engine.max_model_len == 0);
  CHECK(must_parse({"x", "--max-running-requests=7"}, {}).engine.max_num_seqs == 7);
  CHECK(must_parse({"x", "--chunked-prefill-size=64"}, {}).engine.max_num_batched_tokens == 64);
  CHECK(must_parse({"x", "--kv-cache-memory=2GiB"}, {}).engine.kv_cache_bytes == int64_t{2} << 30);
  CHECK(!must_parse({"x", "--disable-radix-cache"}, {}).engine.enable_prefix_caching);
  CHECK(!must_parse({"x", "--no-enable-prefix-caching"}, {}).engine.enable_prefix_caching);
  CHECK(!must_parse({"x", "--no-reflection"}, {}).reflection);
  CHECK(must_parse({"x", "--served-model-name", "a,b"}, {}).served_model_names.size() == 2);
}

TEST_CASE("options: command line beats environment beats file beats default", "[options]") {
  const TemporaryFile file("model: from-file\nport: 1111\nmax_num_seqs: 9\nlog-format: json\n");
  const Variables variables = {{"ENGRAM_PORT", "2222"}, {"ENGRAM_LOG_FORMAT", "text"}};
  const memory::Result<ParsedOptions> parsed =
      parse({"--config", file.path(), "--port=3333"}, variables);
  CAPTURE(parsed.status().to_string());
  REQUIRE(parsed.ok());
  const Options& o = parsed.value().options;
  CHECK(o.port == 3333);
  CHECK(o.log_format == "text");
  CHECK(o.engine.max_num_seqs == 9);
  CHECK(o.engine.model == "from-file");
  std::map<std::string, std::string> origins;
  for (const OptionValue& value : parsed.value().values) origins[value.name] = value.origin;
  CHECK(origins["port"] == "command line");
  CHECK(origins["log-format"] == "environment ENGRAM_LOG_FORMAT");
  CHECK(origins["max-num-seqs"] == "file " + file.path());
  CHECK(origins["host"] == "default");
  CHECK(must_parse({}, {{"ENGRAM_CONFIG", file.path()}}).port == 1111);
}

TEST_CASE("options: what --print-config prints is a --config file", "[options]") {
  const memory::Result<ParsedOptions> first =
      parse({"--engine=fake", "--max-model-len=2k", "--kv-cache-memory=1GiB", "--no-metrics"}, {});
  REQUIRE(first.ok());
  std::string text;
  for (const OptionValue& value : first.value().values) {
    text += value.name + ": " + value.value + "  # " + value.origin + "\n";
  }
  const TemporaryFile file(text);
  const memory::Result<ParsedOptions> second = parse({"--config", file.path()}, {});
  CAPTURE(text, second.status().to_string());
  REQUIRE(second.ok());
  REQUIRE(first.value().values.size() == second.value().values.size());
  for (size_t i = 0; i < first.value().values.size(); ++i) {
    CHECK(first.value().values[i].value == second.value().values[i].value);
  }
}

TEST_CASE("options: wrong files name file and key", "[options]") {
  const std::pair<const char*, const char*> cases[] = {
      {"prot: 1\n", "port"},           {"port: 1\nport: 2\n", "twice"},
      {"port: {a: b}\n", "port"},      {"- a\n- b\n", "map"},
      {"port: [1, [2]]\n", "port"},    {"port: 'unclosed\n", "yaml"},
      {"max-model-len: many", "many"}, {"*undefined", "yaml"}};
  for (const auto& [text, word] : cases) {
    const TemporaryFile file(text);
    const std::string message = refusal({"x", "--config", file.path()}, {});
    CAPTURE(text, message);
    CHECK(names(message, word));
    CHECK(names(message, file.path()));
  }
  CHECK(names(refusal({"--config=/no/such.yaml"}, {}), "/no/such.yaml"));
}

TEST_CASE("options: wrong flags are named, with the nearest one", "[options]") {
  CHECK(names(refusal({}, {}), "--model"));
  CHECK(names(refusal({"x", "--prot=1"}, {}), "--port"));
  CHECK(names(refusal({"x", "--port"}, {}), "--port"));
  CHECK(names(refusal({"x", "--port=65536"}, {}), "65535"));
  CHECK(names(refusal({"x", "--port=-1"}, {}), "--port"));
  CHECK(names(refusal({"x", "--port=eighty"}, {}), "eighty"));
  CHECK(names(refusal({"x", "--device=tpu"}, {}), "cuda"));
  CHECK(names(refusal({"x", "--dtype=int3"}, {}), "--dtype"));
  CHECK(names(refusal({"x", "--kv-cache-dtype=fp4"}, {}), "fp8_e4m3"));
  CHECK(names(refusal({"x", "y"}, {}), "y"));
  CHECK(names(refusal({"x", "--model", "y"}, {}), "x"));
  CHECK(names(refusal({"x", "--port=8002"}, {}), "--metrics-port"));
  CHECK(names(refusal({"x"}, {{"ENGRAM_PORT", "many"}}), "ENGRAM_PORT"));
  CHECK(names(refusal({"x", "--kv-cache-memory=2 potatoes"}, {}), "potatoes"));
}

TEST_CASE("options: tables", "[options]") {
  using memory::NumaPolicy;
  const Options standard = must_parse({"x"}, {});
  CHECK(standard.engine.tables.directory.empty());
  CHECK_FALSE(standard.engine.tables.start_early);
  CHECK(standard.engine.tables.io == memory::IoBackend::kAuto);
  CHECK(standard.engine.tables.arena.huge == memory::HugePages::kAuto);
  CHECK(standard.engine.tables.arena.pin == memory::PinPages::kTry);
  CHECK(standard.engine.tables.arena.numa.kind == NumaPolicy::Kind::kAuto);
  const Options changed = must_parse(
      {"x", "--tables=t", "--start-early", "--table-io=threads", "--require-huge-pages",
       "--no-table-pin", "--numa-policy=bind:3"},
      {});
  CHECK(changed.engine.tables.directory == "t");
  CHECK(changed.engine.tables.start_early);
  CHECK(changed.engine.tables.io == memory::IoBackend::kThreads);
  CHECK(changed.engine.tables.arena.huge == memory::HugePages::kRequire);
  CHECK(changed.engine.tables.arena.pin == memory::PinPages::kNo);
  CHECK(changed.engine.tables.arena.numa.kind == NumaPolicy::Kind::kBind);
  CHECK(changed.engine.tables.arena.numa.node == 3);
  const Options tiers = must_parse(
      {"x", "--tables=t", "--table-placement=host:8GiB,nvme", "--table-cache=1GiB",
       "--verify-rows=2k"},
      {});
  CHECK(tiers.engine.tables.placement == "host:8GiB,nvme");
  CHECK(tiers.engine.tables.cache_bytes == int64_t{1} << 30);
  CHECK(tiers.engine.verify_rows == 2048);
  CHECK(must_parse({"x", "--table-socket=/s"}, {}).engine.tables.socket == "/s");
  CHECK(names(refusal({"x", "--table-placement=ram"}, {}), "ram"));
  CHECK(names(refusal({"x", "--table-cache=1GiB"}, {}), "nvme"));
  CHECK(names(refusal({"x", "--table-socket=/s", "--table-placement=auto"}, {}), "--table-socket"));
  CHECK(names(refusal({"x", "--table-socket=/s", "--start-early"}, {}), "--table-socket"));
  CHECK(names(
      refusal({"x", "--tables=t", "--start-early", "--table-placement=auto"}, {}),
      "--table-placement"));
  CHECK(names(refusal({"x", "--verify-rows=-1"}, {}), "--verify-rows"));
  CHECK(names(refusal({"x", "--start-early"}, {}), "--tables"));
  CHECK(names(refusal({"x", "--table-io=dma"}, {}), "uring"));
  CHECK(names(refusal({"x", "--numa-policy=near"}, {}), "interleave"));
}

TEST_CASE("options: what is asked for instead of serving", "[options]") {
  CHECK(parse({"--version"}, {}).value().action == Action::kVersion);
  CHECK(parse({"--help"}, {}).value().action == Action::kHelp);
  CHECK(names(parse({"--help"}, {}).value().help, "--max-model-len"));
  CHECK(parse({"x", "--check-config"}, {}).value().action == Action::kCheckConfig);
  CHECK(parse({"x", "--print-config"}, {}).value().action == Action::kPrintConfig);
  const memory::Result<ParsedOptions> health = parse({"--health-check", "h:1"}, {});
  CHECK(health.value().action == Action::kHealthCheck);
  CHECK(health.value().health_address == "h:1");
}

}  // namespace engram::server
