// A model of a directory with tables of another size: its config.json, changed, in a directory of
// its own; weights and rows are made up by the engine. And its tables as files, for what reads them
// from a drive.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "engine/model/config.h"
#include "memory/base/status.h"
#include "memory/table/geometry.h"

namespace engram::tools::bench {

// A directory that is removed with all that is in it.
class WorkDirectory {
 public:
  // PARENT/engram-bench-XXXXXX; errors name the path.
  static memory::Result<WorkDirectory> make(const std::string& parent);
  WorkDirectory(WorkDirectory&& other) noexcept;
  WorkDirectory& operator=(WorkDirectory&& other) noexcept;
  ~WorkDirectory();

  const std::string& path() const { return path_; }

 private:
  explicit WorkDirectory(std::string path) : path_(std::move(path)) {}

  std::string path_;  // empty: moved from
};

// Of a model's weights, without tables and norms.
int64_t model_parameters(const engine::ModelConfig& config);

struct SizedModel {
  std::string directory;
  engine::ModelConfig config;
  int64_t parameters = 0;  // without tables
  int64_t table_parameters =
      0;  // of all tables; a little more than asked for: row counts are primes
  int64_t table_bytes = 0;
};

// Writes TO/config.json for tables of about `table_parameters` (0: the model's own size) in rows of
// `codec`. INVALID_ARGUMENT when the model has no Engram layers, or its rows cannot have the codec.
memory::Result<SizedModel> make_sized_model(
    const std::string& model,
    int64_t table_parameters,
    memory::RowCodec codec,
    const std::string& to);

// Writes the made-up tables of the model's engine, DIRECTORY/layer-<l>.engram-table. CANCELLED when
// *stop became true; errors of the table writer. `on_bytes` is told bytes done and in all.
memory::Status write_table_files(
    const engine::ModelConfig& config,
    memory::RowCodec codec,
    const std::string& directory,
    int threads,
    const std::atomic<bool>* stop,
    const std::function<void(int64_t, int64_t)>& on_bytes);

}  // namespace engram::tools::bench
