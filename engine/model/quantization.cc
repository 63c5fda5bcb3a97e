#include "engine/model/quantization.h"

#include <set>
#include <string_view>

#include "engine/ops/ops.h"

namespace engram::engine {
namespace {

using nlohmann::json;

// A text field that may be absent, and else has this value.
void require_text(JsonFields* fields, const char* name, const char* value) {
  if (!fields->has(name)) return;
  std::string text;
  fields->text(name, Need::kOptional, &text);
  if (text != value) fields->refuse(name, value);
}

void read_modules(JsonFields* fields, const char* name, std::vector<std::string>* modules) {
  if (!fields->has(name)) return;
  const json& list = fields->at(name);
  bool good = list.is_array();
  for (size_t i = 0; good && i < list.size(); ++i) {
    good = list[i].is_string() && !list[i].get<std::string>().empty();
    if (good) modules->push_back(list[i].get<std::string>());
  }
  if (!good) fields->reject(name, "a list of names of modules");
}

// What is not known could mean other numbers: it must not be ignored.
void refuse_unknown(const json& object, JsonFields* fields) {
  static const std::set<std::string_view> kKnown = {
      "quant_method",           "fmt",        "weight_block_size", "activation_scheme",
      "modules_to_not_convert", "dequantize", "ignored_layers",
  };
  for (const auto& [name, value] : object.items()) {
    if (!value.is_null() && kKnown.count(name) == 0) {
      fields->refuse(name.c_str(), "no field of this name");
    }
  }
}

}  // namespace

// Whole components only: "layers.1" does not mean layer 10.
bool WeightQuantization::converts(const std::string& module) const {
  const std::string name = "." + module + ".";
  for (const std::string& skipped : modules_to_not_convert) {
    if (name.find("." + skipped + ".") != std::string::npos) return false;
  }
  return true;
}

memory::Status read_quantization(
    const json& root, const std::string& file, WeightQuantization* quantization) {
  const char* name = "quantization_config";
  JsonFields outer(root, file + ": ");
  if (!outer.has(name)) return {};
  if (!outer.at(name).is_object()) {
    outer.reject(name, "an object");
    return outer.status();
  }
  JsonFields fields(outer.at(name), file + ": quantization_config.");
  if (!fields.has("quant_method")) fields.reject("quant_method", "fp8");
  require_text(&fields, "quant_method", "fp8");
  require_text(&fields, "fmt", "e4m3");
  const json blocks = {kMaxScaleRows, kScaleCols};
  if (!fields.has("weight_block_size") || fields.at("weight_block_size") != blocks) {
    fields.refuse("weight_block_size", blocks.dump());
  }
  require_text(&fields, "activation_scheme", "dynamic");
  bool dequantize = false;
  fields.boolean("dequantize", &dequantize);
  if (dequantize) fields.refuse("dequantize", "false");
  for (const char* list : {"modules_to_not_convert", "ignored_layers"}) {
    read_modules(&fields, list, &quantization->modules_to_not_convert);
  }
  refuse_unknown(outer.at(name), &fields);
  quantization->stored = true;
  return fields.status();
}

}  // namespace engram::engine
