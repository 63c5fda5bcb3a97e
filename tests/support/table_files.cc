#include "tests/support/table_files.h"

#include <utility>

#include "memory/table/synthetic_rows.h"
#include "memory/table/table_writer.h"
#include "tests/support/or_die.h"

namespace engram::tests {

memory::TableGeometry small_geometry(
    memory::RowCodec codec, int64_t row_width, int64_t rows, int columns) {
  memory::TableGeometry g;
  g.layer = 1;
  g.orders = {2, 3};
  g.heads = columns / 2;
  g.multipliers = {3, 5, 7};
  int64_t next = 0;
  for (int i = 0; i < columns; ++i) {
    g.offsets.push_back(next);
    g.moduli.push_back(rows / columns - (i % 3 == 0 ? 0 : 1));
    next += g.moduli.back();
  }
  g.rows = rows;
  g.row_width = row_width;
  g.codec = codec;
  return g;
}

std::vector<uint8_t> synthetic_image(const memory::TableHeader& header) {
  std::vector<uint8_t> image(static_cast<size_t>(header.data_bytes));
  uint8_t* scales = header.scale_stride == 0 ? nullptr : image.data() + header.scales_at;
  memory::make_synthetic_rows(
      header.geometry, 0, header.geometry.rows, image.data() + header.values_at,
      header.value_stride, scales, header.scale_stride);
  return image;
}

std::shared_ptr<const memory::TableFile> write_synthetic_table(
    const std::string& path,
    const memory::TableGeometry& geometry,
    memory::RowLayout layout,
    int64_t extent_bytes) {
  const memory::TableHeader plan =
      value_or_die(memory::plan_table(geometry, layout, extent_bytes, {}));
  const auto writer = value_or_die(memory::TableWriter::create(path, plan, {}));
  const std::vector<uint8_t> image = synthetic_image(plan);
  for (int64_t i = 0; i < plan.extents(); ++i) {
    ok_or_die(writer->write_extent(i, image.data() + plan.extent_at(i)));
  }
  value_or_die(writer->finish());
  return value_or_die(memory::TableFile::open(path));
}

}  // namespace engram::tests
