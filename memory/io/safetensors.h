// Tensors of a checkpoint directory: model.safetensors, or the shards that
// model.safetensors.index.json names. Headers are read and checked completely when opened; data is
// read by position, by any number of threads, straight to where it is wanted.
//
// A file is: u64 little-endian length of the header, the header (JSON), then the data the header
// points into. Source: https://github.com/huggingface/safetensors, section "Format".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "memory/base/status.h"
#include "memory/base/tensor.h"
#include "memory/io/file.h"

namespace engram::memory {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
  int64_t bytes = 0;
  int64_t begin = 0;  // byte in the file
  int file = 0;       // index among the files of the directory
};

std::string shape_text(const std::vector<int64_t>& shape);  // "[3, 64]"

// The header's tensors, in file order; `begin` counts from the start of the data.
//   data_bytes  bytes behind the header: the tensors fill them without holes and without overlap
//   name        of the file, for messages
// INVALID_ARGUMENT for everything a header can get wrong.
Result<std::vector<TensorInfo>> parse_safetensors_header(
    std::string_view header, int64_t data_bytes, const std::string& name);

class TensorFiles {
 public:
  // NOT_FOUND when the directory holds neither file; INVALID_ARGUMENT names file and tensor.
  // Shards are plain file names; links are followed, as the Hugging Face cache consists of them.
  static Result<TensorFiles> open(const std::string& directory);
  // DIRECTORY/NAME alone; NOT_FOUND when it is not there.
  static Result<TensorFiles> open_file(const std::string& directory, const std::string& name);

  const std::string& directory() const { return directory_; }
  const std::vector<TensorInfo>& tensors() const { return tensors_; }  // by name
  const TensorInfo* find(std::string_view name) const;                 // null: none of that name
  const std::string& path(const TensorInfo& tensor) const;

  // Bytes [offset, offset + bytes) of the tensor. DATA_LOSS when the file became shorter.
  Status read(const TensorInfo& tensor, int64_t offset, int64_t bytes, void* to) const;
  // Drops that range from the page cache.
  void forget(const TensorInfo& tensor, int64_t offset, int64_t bytes) const;

 private:
  Status add_file(const std::string& path);
  Status sort_tensors();

  std::string directory_;
  std::vector<File> files_;
  std::vector<TensorInfo> tensors_;
};

}  // namespace engram::memory
