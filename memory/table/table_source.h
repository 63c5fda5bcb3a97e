// Where a table comes from: the bytes its memory is filled with, and the rows it is checked
// against while it serves. Constant once made; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "memory/base/status.h"
#include "memory/io/safetensors.h"
#include "memory/table/geometry.h"
#include "memory/table/row_place.h"
#include "memory/table/table_file.h"

namespace engram::memory {

class TableSource {
 public:
  virtual ~TableSource() = default;
  virtual const TableGeometry& geometry() const = 0;
  virtual std::string version() const = 0;  // see RowStore::version()
  virtual std::string path() const = 0;
  // Null if it is not a table file. Shared with who loads it and serves from it.
  virtual std::shared_ptr<const TableFile> file() const { return nullptr; }

  // The memory image of the table: its size, and where the rows lie in it.
  virtual int64_t image_bytes() const = 0;
  virtual RowPlace place(const void* image) const = 0;

  // Fills `image` [image_bytes()], zeroed memory at a multiple of 4096, on a few threads. DATA_LOSS
  // names the file and the place.
  //   on_bytes  told how many more bytes are there, by one thread at a time; may be empty
  virtual Status load(void* image, const std::function<void(int64_t)>& on_bytes) const = 0;

  // One row as it is stored: [value_bytes], and [scale_bytes] or null. DATA_LOSS when it cannot be
  // read.
  virtual Status read_row(int64_t row, uint8_t* values, uint8_t* scales) const = 0;
  // Where that row is, for messages: "row 5 (FILE, offset 4736)".
  virtual std::string row_text(int64_t row) const = 0;
};

// Values without gaps, then scales without gaps at the next multiple of 4096: the image of tables
// that do not come from table files.
int64_t plain_image_bytes(const TableGeometry& geometry);
RowPlace plain_place(const TableGeometry& geometry, const void* image);

// The tensors of one table in a checkpoint.
struct TableTensors {
  std::shared_ptr<const TensorFiles> files;  // shared by the tables of a checkpoint
  TableGeometry geometry;                    // codec as stored
  TensorInfo values;                         // [R, r]
  TensorInfo scales;                         // [R, r / group]; no bytes without scales
};
std::shared_ptr<const TableSource> make_tensor_source(TableTensors tensors);

// A table file; the image is its data section, checked extent by extent while it is read.
std::shared_ptr<const TableSource> make_file_source(std::shared_ptr<const TableFile> file);

// The data section of a table file in memory that `owner` keeps; `name` is its path. Rows are
// checked against these very bytes, which shows what gathers do wrong but not a changed table.
std::shared_ptr<const TableSource> make_mapped_source(
    TableHeader header, const uint8_t* data, std::shared_ptr<const void> owner, std::string name);

}  // namespace engram::memory
