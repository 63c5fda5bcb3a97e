#include "tools/checkpoint_tables.h"

#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "engine/model/published_tables.h"
#include "engine/model/weights.h"
#include "memory/base/checksum.h"
#include "memory/table/row_decode.h"
#include "memory/table/row_encode.h"
#include "tools/progress_line.h"

namespace engram::tools {
namespace {

using engine::PublishedTable;
using engine::PublishedTables;
using memory::Result;
using memory::RowCodec;
using memory::RowErrors;
using memory::RowTarget;
using memory::Status;
using memory::TableGeometry;

constexpr int64_t kBlockElements = int64_t{1} << 18;  // of rows that are decoded at a time

// One table of a checkpoint; shared with the other tables' jobs, because the open files are.
struct Source {
  std::shared_ptr<const PublishedTables> all;
  size_t index = 0;

  const PublishedTable& table() const { return all->tables[index]; }
  const TableGeometry& geometry() const { return table().geometry; }
};

// Reads rows and leaves nothing of them in the page cache.
class SourceRows {
 public:
  explicit SourceRows(Source source) : source_(std::move(source)) {}

  // Values and scales, one row after the other. `scales` may be null where the codec has none.
  Status read(int64_t first, int64_t count, uint8_t* values, uint8_t* scales) const {
    const PublishedTable& table = source_.table();
    ENGRAM_RETURN_IF_ERROR(engine::read_values(*source_.all, table, first, first + count, values));
    forget(table.values, first, count, table.geometry.value_bytes());
    if (table.geometry.scale_bytes() == 0) return {};
    ENGRAM_RETURN_IF_ERROR(engine::read_scales(*source_.all, table, first, first + count, scales));
    forget(table.scales, first, count, table.geometry.scale_bytes());
    return {};
  }

  const TableGeometry& geometry() const { return source_.geometry(); }

 private:
  void forget(
      const std::vector<engine::RowPiece>& pieces,
      int64_t first,
      int64_t count,
      int64_t row_bytes) const {
    for (const engine::RowPiece& piece : pieces) {
      const int64_t begin = std::max(first, piece.begin);
      const int64_t end = std::min(first + count, piece.end);
      if (begin >= end) continue;
      source_.all->files.forget(
          piece.tensor, (begin - piece.begin) * row_bytes, (end - begin) * row_bytes);
    }
  }

  const Source source_;
};

// From rows one after the other to rows that are a stride apart.
void spread(const uint8_t* from, int64_t count, int64_t bytes, int64_t stride, uint8_t* to) {
  for (int64_t i = 0; i < count; ++i) {
    std::copy_n(from + i * bytes, bytes, to + i * stride);
  }
}

// The source's rows, byte for byte.
class CopyProducer : public memory::RowProducer {
 public:
  explicit CopyProducer(Source source) : rows_(std::move(source)) {}

  Status produce(int64_t first, int64_t count, const RowTarget& to) override {
    const int64_t value_bytes = rows_.geometry().value_bytes();
    const int64_t scale_bytes = rows_.geometry().scale_bytes();
    const bool dense =
        to.value_stride == value_bytes && (scale_bytes == 0 || to.scale_stride == scale_bytes);
    if (dense) return rows_.read(first, count, to.values, to.scales);
    std::vector<uint8_t> rows(static_cast<size_t>(count * (value_bytes + scale_bytes)));
    uint8_t* const scales = rows.data() + count * value_bytes;
    ENGRAM_RETURN_IF_ERROR(rows_.read(first, count, rows.data(), scales));
    spread(rows.data(), count, value_bytes, to.value_stride, to.values);
    if (scale_bytes > 0) spread(scales, count, scale_bytes, to.scale_stride, to.scales);
    return {};
  }

 private:
  const SourceRows rows_;
};

// Decodes rows of the source, a block at a time.
class DecodedRows {
 public:
  explicit DecodedRows(const SourceRows* rows) : rows_(rows), geometry_(rows->geometry()) {}

  int64_t block_rows() const { return std::max<int64_t>(1, kBlockElements / geometry_.row_width); }

  // [count, r]; valid until the next call.
  Result<const float*> decode(int64_t first, int64_t count) {
    const int64_t value_bytes = geometry_.value_bytes();
    const int64_t scale_bytes = geometry_.scale_bytes();
    stored_.resize(static_cast<size_t>(count * (value_bytes + scale_bytes)));
    decoded_.resize(static_cast<size_t>(count * geometry_.row_width));
    const uint8_t* const scales = stored_.data() + count * value_bytes;
    ENGRAM_RETURN_IF_ERROR(
        rows_->read(first, count, stored_.data(), stored_.data() + count * value_bytes));
    for (int64_t i = 0; i < count; ++i) {
      memory::decode_row(
          geometry_, stored_.data() + i * value_bytes,
          scale_bytes == 0 ? nullptr : scales + i * scale_bytes, memory::DType::kF32,
          decoded_.data() + i * geometry_.row_width);
    }
    return static_cast<const float*>(decoded_.data());
  }

 private:
  const SourceRows* const rows_;
  const TableGeometry& geometry_;
  std::vector<uint8_t> stored_;
  std::vector<float> decoded_;
};

// The source's rows in another codec.
class EncodeProducer : public memory::RowProducer {
 public:
  EncodeProducer(Source source, TableGeometry target)
      : rows_(std::move(source)), target_(std::move(target)) {
    for (int i = 0; i <= target_.columns(); ++i) errors_.emplace_back(target_);
  }

  Status produce(int64_t first, int64_t count, const RowTarget& to) override {
    DecodedRows source(&rows_);
    std::map<size_t, RowErrors> errors;  // of this run, by column
    for (int64_t done = 0; done < count;) {
      // A block ends where its column ends.
      const auto [column, end] = column_of(first + done);
      const int64_t rows = std::min({source.block_rows(), count - done, end - (first + done)});
      const Result<const float*> decoded = source.decode(first + done, rows);
      if (!decoded.ok()) return decoded.status();
      const RowTarget part{
          .values = to.values + done * to.value_stride,
          .scales = to.scales == nullptr ? nullptr : to.scales + done * to.scale_stride,
          .value_stride = to.value_stride,
          .scale_stride = to.scale_stride};
      memory::encode_rows(target_, decoded.value(), rows, part);
      errors.try_emplace(column, target_)
          .first->second.add(
              decoded.value(), rows,
              {part.values, part.scales, part.value_stride, part.scale_stride});
      done += rows;
    }
    const std::lock_guard<std::mutex> lock(mu_);
    for (const auto& [column, sums] : errors) errors_[column].merge(sums);
    return {};
  }

  // One per column, then one for all rows.
  std::vector<memory::RowErrorReport> reports() {
    const std::lock_guard<std::mutex> lock(mu_);
    RowErrors all(target_);
    std::vector<memory::RowErrorReport> reports;
    for (size_t i = 0; i < errors_.size(); ++i) {
      all.merge(errors_[i]);
      if (i + 1 < errors_.size()) reports.push_back(errors_[i].report());
    }
    reports.push_back(all.report());
    return reports;
  }

  // Known only after a look at the whole table; before the first row is produced.
  void set_tensor_scale(float scale) {
    target_.tensor_scale = scale;
    errors_.clear();
    for (int i = 0; i <= target_.columns(); ++i) errors_.emplace_back(target_);
  }
  const SourceRows& rows() const { return rows_; }

 private:
  // The column of a row and the end of its rows; rows behind the last column have a number of their
  // own.
  std::pair<size_t, int64_t> column_of(int64_t row) const {
    size_t column = 0;
    while (column < target_.moduli.size() &&
           row >= target_.offsets[column] + target_.moduli[column]) {
      ++column;
    }
    return {
        column, column < target_.moduli.size() ? target_.offsets[column] + target_.moduli[column]
                                               : target_.rows};
  }

  const SourceRows rows_;
  TableGeometry target_;

  // Guarded by mu_.
  std::mutex mu_;
  std::vector<RowErrors> errors_;  // by column; the last one: rows of no column
};

// The largest magnitude of the whole table, on several threads.
Result<float> measure(
    const SourceRows& rows, int threads, const std::atomic<bool>* stop, const std::string& name) {
  const TableGeometry& g = rows.geometry();
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> done{0};
  std::atomic<bool> give_up{false};
  std::mutex mu;
  Status failed;
  float most = 0;
  const auto work = [&] {
    DecodedRows source(&rows);
    float own = 0;
    Status status;
    while (status.ok() && !stop->load() && !give_up.load()) {
      const int64_t first = next.fetch_add(source.block_rows());
      if (first >= g.rows) break;
      const int64_t count = std::min(source.block_rows(), g.rows - first);
      const Result<const float*> decoded = source.decode(first, count);
      status = decoded.status();
      if (!status.ok()) break;
      own = std::max(own, memory::max_magnitude(decoded.value(), count * g.row_width));
      done += count * g.value_bytes();
    }
    const std::lock_guard<std::mutex> lock(mu);
    most = std::max(most, own);
    if (!status.ok() && failed.ok()) failed = status;
    give_up = give_up || !status.ok();
  };
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) workers.emplace_back(work);
  {
    ProgressLine line(name, g.rows * g.value_bytes(), 0);
    while (done < g.rows * g.value_bytes() && !stop->load() && !give_up.load()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      line.update(done);
    }
  }
  for (std::thread& worker : workers) worker.join();
  if (!failed.ok()) return failed;
  if (stop->load()) return Status(memory::Code::kCancelled, "stopped");
  return most;
}

// Names the checkpoint by what changes when its files do, and not by where it is.
std::string source_text(const PublishedTables& published, const PublishedTable& table) {
  std::set<std::string> paths;
  for (const auto* pieces : {&table.values, &table.scales}) {
    for (const engine::RowPiece& piece : *pieces) paths.insert(published.files.path(piece.tensor));
  }
  std::string files;
  for (const std::string& path : paths) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0) info = {};
    files.append(path.substr(path.rfind('/') + 1)).append(":");
    files.append(std::to_string(info.st_size)).append(":");
    files.append(std::to_string(info.st_mtim.tv_sec)).append(".");
    files.append(std::to_string(info.st_mtim.tv_nsec)).append("\n");
  }
  const uint64_t hash = memory::checksum64(files.data(), static_cast<int64_t>(files.size()));
  return published.layout + " checkpoint of " + std::to_string(paths.size()) + " files, " +
         memory::hex64(hash);
}

void add_encoder(Source source, TableGeometry target, TableJob* job) {
  auto producer = std::make_unique<EncodeProducer>(std::move(source), target);
  EncodeProducer* encoder = producer.get();  // owned by the job, as the two functions are
  job->errors = [encoder] { return encoder->reports(); };
  if (target.codec == RowCodec::kF8Tensor) {
    job->prepare = [encoder](TableJob* self, int threads, const std::atomic<bool>* stop) -> Status {
      const Result<float> most = measure(
          encoder->rows(), threads, stop,
          "measuring layer " + std::to_string(self->geometry.layer));
      if (!most.ok()) return most.status();
      self->geometry.tensor_scale = memory::e4m3_tensor_scale(most.value());
      encoder->set_tensor_scale(self->geometry.tensor_scale);
      return {};
    };
  }
  job->producer = std::move(producer);
}

}  // namespace

Result<std::vector<TableJob>> checkpoint_jobs(
    const std::string& directory,
    const std::vector<int>& layers,
    std::optional<RowCodec> codec,
    int group) {
  Result<PublishedTables> opened = engine::open_published_tables(directory);
  if (!opened.ok()) return opened.status();
  const auto published = std::make_shared<const PublishedTables>(std::move(opened).value());
  std::vector<TableJob> jobs;
  for (size_t i = 0; i < published->tables.size(); ++i) {
    const PublishedTable& table = published->tables[i];
    const int layer = table.geometry.layer;
    if (!layers.empty() && std::count(layers.begin(), layers.end(), layer) == 0) continue;
    TableJob& job = jobs.emplace_back();
    job.geometry = table.geometry;
    job.token_map_sha256 = engine::token_map_sha256(published->token_map);
    job.source = source_text(*published, table);
    if (!codec || *codec == table.geometry.codec) {
      job.producer = std::make_unique<CopyProducer>(Source{published, i});
      continue;
    }
    job.geometry.codec = *codec;
    job.geometry.group = group;
    job.geometry.tensor_scale = 1.f;
    ENGRAM_RETURN_IF_ERROR(memory::check_codec(job.geometry));
    add_encoder(Source{published, i}, job.geometry, &job);
  }
  if (jobs.size() < std::max<size_t>(1, layers.size())) {
    std::string have;
    for (const PublishedTable& table : published->tables) {
      have.append(have.empty() ? "" : ", ").append(std::to_string(table.geometry.layer));
    }
    return memory::invalid_argument(
        directory + ": has tables in the layers " + have + ", and not in all of --layers");
  }
  return jobs;
}

}  // namespace engram::tools
