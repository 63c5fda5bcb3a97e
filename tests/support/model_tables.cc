#include "tests/support/model_tables.h"

#include <cstring>
#include <utility>

#include "engine/model/hash_constants.h"
#include "engine/model/tokenizer.h"
#include "engine/model/weights.h"
#include "memory/table/table_set.h"
#include "memory/table/table_writer.h"
#include "tests/support/or_die.h"

namespace engram::tests {
namespace {

engine::HashOnly hash_of(const std::string& model) {
  const auto tokenizer = value_or_die(engine::load_tokenizer(model));
  return value_or_die(engine::load_hash_only(model, tokenizer->size()));
}

std::vector<uint8_t> image_of(
    const memory::TableSource& source, const memory::TableHeader& plan, int64_t rotate) {
  const memory::TableGeometry& g = plan.geometry;
  std::vector<uint8_t> image(static_cast<size_t>(plan.data_bytes));
  for (int64_t row = 0; row < g.rows; ++row) {
    uint8_t* values = image.data() + plan.values_at + row * plan.value_stride;
    uint8_t* scales = image.data() + plan.scales_at + row * plan.scale_stride;
    ok_or_die(source.read_row((row + rotate) % g.rows, values, scales));
  }
  return image;
}

}  // namespace

std::vector<std::shared_ptr<const memory::TableSource>> checkpoint_tables(
    const std::string& model) {
  const engine::HashOnly hash = hash_of(model);
  const auto files =
      std::make_shared<const memory::TensorFiles>(value_or_die(memory::TensorFiles::open(model)));
  std::vector<std::shared_ptr<const memory::TableSource>> sources;
  for (const memory::TableGeometry& g : hash.geometries) {
    const std::string prefix = engine::engram_prefix(g.layer);
    memory::TableTensors tensors{.files = files, .geometry = g, .values = {}, .scales = {}};
    tensors.values = *files->find(prefix + "embedding.weight");
    if (g.scale_bytes() > 0) tensors.scales = *files->find(prefix + "embedding.scale");
    sources.push_back(memory::make_tensor_source(std::move(tensors)));
  }
  return sources;
}

void write_model_tables(
    const std::string& model, const std::string& directory, const ModelTables& options) {
  const std::array<uint8_t, 32> token_map = engine::token_map_sha256(hash_of(model).token_map);
  for (const auto& source : checkpoint_tables(model)) {
    const std::string path = memory::table_file_path(directory, source->geometry().layer);
    const memory::TableHeader plan = value_or_die(
        memory::plan_table(source->geometry(), options.layout, options.extent_bytes, token_map));
    const auto writer = value_or_die(memory::TableWriter::create(path, plan, {}));
    const std::vector<uint8_t> image = image_of(*source, plan, options.rotate);
    for (int64_t i = 0; i < plan.extents(); ++i) {
      ok_or_die(writer->write_extent(i, image.data() + plan.extent_at(i)));
    }
    value_or_die(writer->finish());
  }
}

}  // namespace engram::tests
