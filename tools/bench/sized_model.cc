#include "tools/bench/sized_model.h"

#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <utility>

#include "engine/model/weights.h"
#include "memory/table/table_stream.h"

namespace engram::tools::bench {
namespace {

using engine::ModelConfig;
using memory::Result;
using memory::Status;

// The rows of a source, as a table writer wants them.
class SourceRows : public memory::RowProducer {
 public:
  explicit SourceRows(const memory::TableSource& source) : source_(source) {}

  Status produce(int64_t first, int64_t count, const memory::RowTarget& to) override {
    for (int64_t i = 0; i < count; ++i) {
      uint8_t* scales = to.scales == nullptr ? nullptr : to.scales + i * to.scale_stride;
      ENGRAM_RETURN_IF_ERROR(source_.read_row(first + i, to.values + i * to.value_stride, scales));
    }
    return {};
  }

 private:
  const memory::TableSource& source_;
};

Result<std::string> read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  if (!file) return memory::not_found(path + " cannot be read");
  return text.str();
}

Status write_table(
    const memory::TableSource& source,
    const std::string& directory,
    const std::array<uint8_t, 32>& token_map,
    const memory::StreamOptions& options) {
  const memory::TableGeometry& geometry = source.geometry();
  // Values and scales of a row beside each other: one read per row.
  Result<memory::TableHeader> plan = memory::plan_table(
      geometry, memory::RowLayout::kInterleaved, memory::kDefaultExtentBytes, token_map);
  if (!plan.ok()) return plan.status();
  Result<std::unique_ptr<memory::TableWriter>> writer = memory::TableWriter::create(
      memory::table_file_path(directory, geometry.layer), plan.value(), {});
  if (!writer.ok()) return writer.status();
  SourceRows rows(source);
  ENGRAM_RETURN_IF_ERROR(memory::stream_rows(&rows, writer.value().get(), options));
  return writer.value()->finish().status();
}

}  // namespace

int64_t model_parameters(const ModelConfig& c) {
  const int64_t queries = int64_t{c.num_attention_heads} * c.head_dim;
  const int64_t keys = int64_t{c.num_key_value_heads} * c.head_dim;
  const int64_t layer = c.hidden_size * (2 * queries + 2 * keys + 3 * c.intermediate_size);
  const int64_t engram = int64_t{c.hc_mult + 1} * c.hidden_size * c.engram.vector_width();
  return (c.tie_word_embeddings ? 1 : 2) * c.vocab_size * c.hidden_size +
         c.num_hidden_layers * layer + static_cast<int64_t>(c.engram.layer_ids.size()) * engram;
}

Result<WorkDirectory> WorkDirectory::make(const std::string& parent) {
  std::string path = parent + "/engram-bench-XXXXXX";
  if (::mkdtemp(path.data()) != nullptr) return WorkDirectory(std::move(path));
  return memory::failed_precondition(
      "no directory can be made in " + parent + ": " + std::strerror(errno));
}

WorkDirectory::WorkDirectory(WorkDirectory&& other) noexcept
    : path_(std::exchange(other.path_, {})) {}

WorkDirectory& WorkDirectory::operator=(WorkDirectory&& other) noexcept {
  std::swap(path_, other.path_);
  return *this;
}

WorkDirectory::~WorkDirectory() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

Result<SizedModel> make_sized_model(
    const std::string& model,
    int64_t table_parameters,
    memory::RowCodec codec,
    const std::string& to) {
  SizedModel sized;
  Result<ModelConfig> own = engine::load_config(model);
  if (!own.ok()) return own.status();
  const engine::EngramConfig& engram = own.value().engram;
  if (engram.layer_ids.empty()) {
    return memory::invalid_argument(
        "the model in " + model + " has no Engram layers, hence no tables to measure");
  }
  const Result<std::string> text = read_text(model + "/config.json");
  if (!text.ok()) return text.status();
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(text.value(), nullptr, false);
  if (config.is_discarded()) return memory::invalid_argument(model + "/config.json is no JSON");
  if (table_parameters > 0) {
    const int64_t width = static_cast<int64_t>(engram.layer_ids.size()) * engram.vector_width();
    config["engram_vocab_size"] = std::max<int64_t>(1, table_parameters / width);
  }
  const std::string path = to + "/config.json";
  std::ofstream file(path, std::ios::binary);
  file << config.dump(1) << '\n';
  file.close();
  if (!file) return memory::failed_precondition(path + " cannot be written");
  Result<ModelConfig> read = engine::load_config(to);
  if (!read.ok()) return read.status();
  sized.directory = to;
  sized.config = std::move(read).value();
  sized.parameters = model_parameters(sized.config);
  const Result<memory::TableRequest> tables = engine::dummy_table_request(sized.config, codec);
  if (!tables.ok()) return tables.status();
  for (const auto& source : tables.value().sources) {
    sized.table_parameters += source->geometry().rows * source->geometry().row_width;
    sized.table_bytes += source->image_bytes();
  }
  return sized;
}

Status write_table_files(
    const ModelConfig& config,
    memory::RowCodec codec,
    const std::string& directory,
    int threads,
    const std::atomic<bool>* stop,
    const std::function<void(int64_t, int64_t)>& on_bytes) {
  const Result<memory::TableRequest> made = engine::dummy_table_request(config, codec);
  if (!made.ok()) return made.status();
  const memory::TableRequest& request = made.value();
  int64_t total = 0;
  int64_t before = 0;
  for (const auto& source : request.sources) total += source->image_bytes();
  for (const auto& source : request.sources) {
    memory::StreamOptions options;
    options.threads = threads;
    options.stop = stop;
    options.on_progress = [&](const memory::StreamProgress& p) {
      if (on_bytes) on_bytes(std::min(total, before + p.bytes_done), total);
    };
    ENGRAM_RETURN_IF_ERROR(write_table(*source, directory, request.token_map_sha256, options));
    before += source->image_bytes();
  }
  return {};
}

}  // namespace engram::tools::bench
