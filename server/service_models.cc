#include <engram/v1/models.grpc.pb.h>
#include <grpcpp/grpcpp.h>

#include <chrono>

#include "engine/run/validate.h"
#include "server/error_details.h"
#include "server/front.h"
#include "server/request_reader.h"
#include "server/services.h"
#include "server/unary.h"

namespace engram::server {
namespace {

constexpr const char* kService = "engram.v1.Models";

void set_limits(v1::Limits* limits) {
  limits->set_max_prompts(kMaxPrompts);
  limits->set_max_choices(engine::kMaxChoices);
  limits->set_max_total_choices(kMaxTotalChoices);
  limits->set_max_text_bytes(kMaxTextBytes);
  limits->set_max_stop_strings(engine::kMaxStopStrings);
  limits->set_max_stop_bytes(engine::kMaxStopBytes);
  limits->set_max_stop_token_ids(engine::kMaxStopTokenIds);
  limits->set_max_logit_bias(engine::kMaxLogitBias);
  limits->set_max_logprobs(engine::kMaxLogprobs);
}

void set_defaults(const engine::GenerationDefaults& defaults, v1::SamplingDefaults* to) {
  to->set_temperature(static_cast<float>(defaults.temperature));
  to->set_top_p(static_cast<float>(defaults.top_p));
  to->set_top_k(static_cast<int32_t>(defaults.top_k));
  to->set_min_p(static_cast<float>(defaults.min_p));
  to->set_repetition_penalty(static_cast<float>(defaults.repetition_penalty));
  if (defaults.max_new_tokens > 0) {
    to->set_max_tokens(static_cast<uint64_t>(defaults.max_new_tokens));
  }
}

void describe(const EngineSlot& slot, const engine::Engine& engine, v1::Model* model) {
  const engine::EngineInfo& info = engine.info();
  const engine::ModelConfig& config = info.config;
  model->set_id(slot.served_names()[0]);
  for (size_t i = 1; i < slot.served_names().size(); ++i) {
    model->add_aliases(slot.served_names()[i]);
  }
  model->set_architecture(info.architecture);
  model->set_max_model_len(static_cast<uint64_t>(info.max_model_len));
  model->set_vocab_size(static_cast<uint64_t>(config.vocab_size));
  model->set_tokenizer_size(static_cast<uint64_t>(engine.tokenizer().size()));
  if (config.bos_token_id >= 0) model->set_bos_token_id(config.bos_token_id);
  for (const int32_t id : config.eos_token_ids) model->add_eos_token_ids(id);
  set_limits(model->mutable_limits());
  set_defaults(info.sampling_defaults, model->mutable_sampling_defaults());
  if (config.engram.layer_ids.empty()) return;
  v1::EngramModule* module = model->mutable_engram();
  for (const int layer : config.engram.layer_ids) module->add_layers(static_cast<uint32_t>(layer));
  module->set_max_ngram_size(static_cast<uint32_t>(config.engram.max_ngram_size));
  module->set_heads(static_cast<uint32_t>(config.engram.n_heads));
  module->set_row_width(static_cast<uint64_t>(config.engram.head_dim));
  module->set_table_placement(info.table_placement);
}

class ModelsService final : public v1::Models::CallbackService {
 public:
  explicit ModelsService(Front& front) : front_(front) {}

  grpc::ServerUnaryReactor* List(
      grpc::CallbackServerContext* context,
      const v1::ListModelsRequest*,
      v1::ListModelsResponse* response) override {
    return answer(context, front_.metrics, kService, "List", [&]() -> CallError {
      memory::Result<std::shared_ptr<engine::Engine>> engine = served_engine();
      if (!engine.ok()) return {engine.status(), ""};
      describe(front_.slot, *engine.value(), response->add_models());
      return {};
    });
  }

  grpc::ServerUnaryReactor* Get(
      grpc::CallbackServerContext* context,
      const v1::GetModelRequest* request,
      v1::Model* response) override {
    return answer(context, front_.metrics, kService, "Get", [&]() -> CallError {
      CallError error = {front_.slot.check_model(request->id()), ""};
      if (!error.ok()) return error;
      memory::Result<std::shared_ptr<engine::Engine>> engine = served_engine();
      if (!engine.ok()) return {engine.status(), ""};
      describe(front_.slot, *engine.value(), response);
      return {};
    });
  }

 private:
  // Also while draining: nothing is asked of it.
  memory::Result<std::shared_ptr<engine::Engine>> served_engine() const {
    if (std::shared_ptr<engine::Engine> engine = front_.slot.engine()) return engine;
    return memory::unavailable("the model is loading");
  }

  Front& front_;
};

}  // namespace

std::unique_ptr<grpc::Service> make_models_service(Front& front) {
  return std::make_unique<ModelsService>(front);
}

}  // namespace engram::server
