// engram tokenize: text to ids with the server's tokenizer, and back.
#include <engram/v1/tokenizer.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/command.h"

namespace engram::tools {
namespace {

struct TokenizeArguments {
  std::string server;
  std::string text;
  std::string ids;
  bool no_special = false;
  bool json = false;
};

int tokenize(const TokenizeArguments& a) {
  v1::TokenizeRequest request;
  request.set_text(a.text == "-" ? read_input() : a.text);
  request.set_add_special_tokens(!a.no_special);
  request.set_token_bytes(true);
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  const auto stub = v1::Tokenizer::NewStub(connect(a.server));
  const grpc::Status status = stub->Tokenize(&context, request, &response);
  if (!status.ok()) return report_failure(status, a.server);
  using Json = nlohmann::ordered_json;
  if (a.json) {
    Json tokens = Json::array();
    for (const std::string& bytes : response.token_bytes()) tokens.push_back(bytes);
    const Json object = {
        {"token_ids",
         std::vector<uint32_t>(response.token_ids().begin(), response.token_ids().end())},
        {"tokens", tokens}};
    // A token may end inside a code point; JSON text may not.
    std::printf("%s\n", object.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    return kDone;
  }
  for (int i = 0; i < response.token_ids_size(); ++i) {
    const std::string shown =
        Json(response.token_bytes(i)).dump(-1, ' ', false, Json::error_handler_t::replace);
    std::printf("%8u  %s\n", response.token_ids(i), shown.c_str());
  }
  std::fprintf(stderr, "%d tokens\n", response.token_ids_size());
  return kDone;
}

int detokenize(const TokenizeArguments& a) {
  v1::DetokenizeRequest request;
  std::vector<uint32_t> ids;
  if (!parse_ids(a.ids, &ids)) {
    return report_usage("--ids: expected ids such as 5,7,11, got " + a.ids);
  }
  request.mutable_token_ids()->Assign(ids.begin(), ids.end());
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  const auto stub = v1::Tokenizer::NewStub(connect(a.server));
  const grpc::Status status = stub->Detokenize(&context, request, &response);
  if (!status.ok()) return report_failure(status, a.server);
  if (a.json) {
    std::printf("%s\n", nlohmann::json({{"text", response.text()}}).dump().c_str());
  } else {
    std::printf("%s\n", response.text().c_str());
  }
  return kDone;
}

}  // namespace

void add_tokenize_command(CLI::App& app, Invocation* invocation) {
  CLI::App* command = app.add_subcommand(
      "tokenize", "Text to token ids, or ids to text, with the server's tokenizer");
  auto a = std::make_shared<TokenizeArguments>();
  CLI::Option* text = command->add_option("text", a->text, "The text; - reads standard input");
  CLI::Option* ids = command->add_option("--ids", a->ids, "Ids to turn into text: 5,7,11");
  add_server_option(*command, &a->server);
  command->add_flag("--no-add-special-tokens", a->no_special, "No begin-of-text in front");
  command->add_flag("--json", a->json, "One object");
  command->callback([a, text, ids, invocation] {
    const bool one = (text->count() > 0) != (ids->count() > 0);
    const bool back = ids->count() > 0;
    invocation->run = [a, one, back] {
      if (!one) return report_usage("give a text or --ids");
      return back ? detokenize(*a) : tokenize(*a);
    };
  });
}

}  // namespace engram::tools
