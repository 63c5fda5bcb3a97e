#include "engine/model/rope.h"

#include <algorithm>
#include <cmath>

namespace engram::engine {
namespace {

using nlohmann::json;

// At 1 every pair would turn alike, and yarn divides by the logarithm.
constexpr double kMinTheta = 1.001;
constexpr double kMaxTheta = 1e15;
constexpr double kMinFactor = 1e-3;
constexpr double kMaxFactor = 1e6;
constexpr double kMaxTurns = 1e9;
constexpr double kPi = 3.14159265358979323846;

void read_kind(JsonFields* fields, RopeScaling* scaling) {
  const char* name = fields->has("rope_type") ? "rope_type" : "type";
  std::string kind = "default";
  fields->text(name, Need::kOptional, &kind);
  if (kind == "linear") {
    scaling->kind = RopeScaling::Kind::kLinear;
  } else if (kind == "llama3") {
    scaling->kind = RopeScaling::Kind::kLlama3;
  } else if (kind == "yarn") {
    scaling->kind = RopeScaling::Kind::kYarn;
  } else if (kind != "default") {
    fields->refuse(name, "default, linear, llama3 and yarn");
  }
}

void read_llama3(JsonFields* fields, RopeScaling* s) {
  fields->number("low_freq_factor", Need::kRequired, 1e-6, kMaxTurns, &s->low_freq_factor);
  fields->number("high_freq_factor", Need::kRequired, 1e-6, kMaxTurns, &s->high_freq_factor);
  if (fields->status().ok() && s->high_freq_factor <= s->low_freq_factor) {
    fields->reject("high_freq_factor", "more than low_freq_factor");
  }
}

void read_yarn(JsonFields* fields, RopeScaling* s) {
  fields->number("beta_fast", Need::kOptional, 0, kMaxTurns, &s->beta_fast);
  fields->number("beta_slow", Need::kOptional, 0, kMaxTurns, &s->beta_slow);
  if (s->beta_fast == 0) s->beta_fast = 32;
  if (s->beta_slow == 0) s->beta_slow = 1;
  fields->boolean("truncate", &s->truncate);
  fields->number("mscale", Need::kOptional, 0, 1e3, &s->mscale);
  fields->number("mscale_all_dim", Need::kOptional, 0, 1e3, &s->mscale_all_dim);
  fields->number("attention_factor", Need::kOptional, 1e-6, 1e6, &s->attention_factor);
}

memory::Status read_scaling(
    const json& object, const std::string& where, int64_t max_positions, RopeScaling* s) {
  JsonFields fields(object, where);
  read_kind(&fields, s);
  if (s->kind == RopeScaling::Kind::kNone) return fields.status();
  fields.number("factor", Need::kRequired, kMinFactor, kMaxFactor, &s->factor);
  s->original_max_position_embeddings = static_cast<double>(max_positions);
  fields.number(
      "original_max_position_embeddings", Need::kOptional, 0, 1e12,
      &s->original_max_position_embeddings);
  if (s->original_max_position_embeddings == 0) {
    s->original_max_position_embeddings = static_cast<double>(max_positions);
  }
  if (s->kind == RopeScaling::Kind::kLlama3) read_llama3(&fields, s);
  if (s->kind == RopeScaling::Kind::kYarn) read_yarn(&fields, s);
  return fields.status();
}

// Yarn's growth of attention with the context's extension.
double yarn_mscale(double factor, double m) {
  return factor <= 1 ? 1.0 : 0.1 * m * std::log(factor) + 1.0;
}

double yarn_scale(const RopeScaling& s) {
  if (s.attention_factor != 0) return s.attention_factor;
  if (s.mscale != 0 && s.mscale_all_dim != 0) {
    return yarn_mscale(s.factor, s.mscale) / yarn_mscale(s.factor, s.mscale_all_dim);
  }
  return yarn_mscale(s.factor, 1.0);
}

// By the number of turns within the original context: the fast stay, the slow are slowed down.
void scale_llama3(const RopeScaling& s, std::vector<double>* frequencies) {
  for (double& f : *frequencies) {
    const double turns = s.original_max_position_embeddings * f / (2 * kPi);
    const double keep = std::clamp(
        (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0);
    f = f * keep + f / s.factor * (1 - keep);
  }
}

void scale_yarn(const RopeScaling& s, double theta, int dim, std::vector<double>* frequencies) {
  const auto index_of = [&](double turns) {
    return dim * std::log(s.original_max_position_embeddings / (turns * 2 * kPi)) /
           (2 * std::log(theta));
  };
  double low = index_of(s.beta_fast);
  double high = index_of(s.beta_slow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(dim - 1));
  const double width = high == low ? 0.001 : high - low;
  for (size_t i = 0; i < frequencies->size(); ++i) {
    double& f = (*frequencies)[i];
    const double slow = std::clamp((static_cast<double>(i) - low) / width, 0.0, 1.0);
    f = f * (1 - slow) + f / s.factor * slow;
  }
}

}  // namespace

memory::Status read_rope(const json& root, const std::string& file, ModelConfig* config) {
  JsonFields fields(root, file + ": ");
  const int64_t positions = config->max_position_embeddings;
  for (const char* name : {"rope_parameters", "rope_scaling"}) {
    if (!fields.has(name)) continue;
    if (!fields.at(name).is_object()) {
      fields.reject(name, "an object");
      return fields.status();
    }
    const std::string where = file + ": " + name + ".";
    if (std::string_view(name) == "rope_parameters") {
      JsonFields inner(fields.at(name), where);
      inner.number("rope_theta", Need::kRequired, kMinTheta, kMaxTheta, &config->rope_theta);
      ENGRAM_RETURN_IF_ERROR(inner.status());
      return read_scaling(fields.at(name), where, positions, &config->rope_scaling);
    }
    ENGRAM_RETURN_IF_ERROR(read_scaling(fields.at(name), where, positions, &config->rope_scaling));
  }
  fields.number("rope_theta", Need::kOptional, kMinTheta, kMaxTheta, &config->rope_theta);
  return fields.status();
}

RopeFrequencies rope_frequencies(const ModelConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  RopeFrequencies out;
  for (int i = 0; i < config.head_dim; i += 2) {
    out.frequencies.push_back(
        std::pow(config.rope_theta, -static_cast<double>(i) / config.head_dim));
  }
  switch (s.kind) {
    case RopeScaling::Kind::kNone:
      break;
    case RopeScaling::Kind::kLinear:
      for (double& f : out.frequencies) f /= s.factor;
      break;
    case RopeScaling::Kind::kLlama3:
      scale_llama3(s, &out.frequencies);
      break;
    case RopeScaling::Kind::kYarn:
      scale_yarn(s, config.rope_theta, config.head_dim, &out.frequencies);
      out.scale = yarn_scale(s);
      break;
  }
  return out;
}

}  // namespace engram::engine
