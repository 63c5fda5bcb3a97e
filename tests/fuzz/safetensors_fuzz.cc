// Any bytes as model.safetensors, as a header alone, or as an index of two good shards, by the
// first byte. What opens must lie within its file and be readable to the last byte.
#include <stdlib.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/safetensors.h"

namespace {

using engram::memory::Result;
using engram::memory::TensorFiles;
using engram::memory::TensorInfo;

void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string one_tensor(const std::string& name) {
  const std::string header =
      "{\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}";
  return std::string(1, static_cast<char>(header.size())) + std::string(7, '\0') + header + "ab";
}

// A directory of this process; removed at its end.
struct Directory {
  std::string path;

  Directory() {
    char pattern[] = "/tmp/safetensors_fuzz_XXXXXX";
    path = ::mkdtemp(pattern);
    write(path + "/one.safetensors", one_tensor("x"));
    write(path + "/two.safetensors", one_tensor("y"));
  }
  ~Directory() { std::system(("rm -rf " + path).c_str()); }
};

void check_open(const std::string& directory) {
  const Result<TensorFiles> files = TensorFiles::open(directory);
  if (!files.ok()) {
    ENGRAM_CHECK(!files.status().message().empty());
    return;
  }
  for (const TensorInfo& tensor : files.value().tensors()) {
    ENGRAM_CHECK(files.value().find(tensor.name) == &tensor);
    std::vector<char> bytes(static_cast<size_t>(tensor.bytes));
    ENGRAM_CHECK(files.value().read(tensor, 0, tensor.bytes, bytes.data()).ok());
  }
}

void check_header(const std::string& header, int64_t data_bytes) {
  const auto tensors = engram::memory::parse_safetensors_header(header, data_bytes, "fuzz");
  if (!tensors.ok()) return;
  int64_t covered = 0;
  for (const TensorInfo& tensor : tensors.value()) {
    ENGRAM_CHECK(tensor.begin == covered);
    ENGRAM_CHECK(tensor.bytes >= 0);
    covered += tensor.bytes;
  }
  ENGRAM_CHECK(covered == data_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Directory directory;
  if (size == 0) return 0;
  const std::string bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::string file = directory.path + "/model.safetensors";
  const std::string index = file + ".index.json";
  switch (data[0] % 3) {
    case 0:
      write(file, bytes);
      check_open(directory.path);
      break;
    case 1:
      // The second byte says how much data there is, so that most headers can be right.
      if (!bytes.empty()) check_header(bytes.substr(1), static_cast<uint8_t>(bytes[0]));
      break;
    default:
      write(index, bytes);
      check_open(directory.path);
      std::remove(index.c_str());
  }
  return 0;
}
