#include "memory/table/table_source.h"

#include <algorithm>
#include <cstring>
#include <mutex>
#include <utility>

#include "memory/io/parallel_load.h"

namespace engram::memory {
namespace {

constexpr int64_t kAlignment = 4096;

int64_t scales_at(const TableGeometry& g) {
  return (g.rows * g.value_bytes() + kAlignment - 1) / kAlignment * kAlignment;
}

class TensorSource : public TableSource {
 public:
  explicit TensorSource(TableTensors tensors) : t_(std::move(tensors)) {}

  const TableGeometry& geometry() const override { return t_.geometry; }
  // A checkpoint's own tables carry no identity.
  std::string version() const override { return "checkpoint"; }
  std::string path() const override { return t_.files->path(t_.values); }
  int64_t image_bytes() const override { return plain_image_bytes(t_.geometry); }
  RowPlace place(const void* image) const override { return plain_place(t_.geometry, image); }

  Status load(void* image, const std::function<void(int64_t)>& on_bytes) const override {
    uint8_t* to = static_cast<uint8_t*>(image);
    const int64_t value_jobs = (t_.values.bytes + kLoadChunkBytes - 1) / kLoadChunkBytes;
    const int64_t scale_jobs = (t_.scales.bytes + kLoadChunkBytes - 1) / kLoadChunkBytes;
    std::mutex mu;  // one thread at a time tells
    return run_jobs(value_jobs + scale_jobs, 0, [&](int64_t job, void*) -> Status {
      const bool scales = job >= value_jobs;
      const TensorInfo& tensor = scales ? t_.scales : t_.values;
      const int64_t offset = (scales ? job - value_jobs : job) * kLoadChunkBytes;
      const int64_t bytes = std::min(kLoadChunkBytes, tensor.bytes - offset);
      uint8_t* at = to + (scales ? scales_at(t_.geometry) : 0) + offset;
      ENGRAM_RETURN_IF_ERROR(t_.files->read(tensor, offset, bytes, at));
      const std::lock_guard<std::mutex> lock(mu);
      if (on_bytes) on_bytes(bytes);
      return {};
    });
  }

  Status read_row(int64_t row, uint8_t* values, uint8_t* scales) const override {
    const int64_t value_bytes = t_.geometry.value_bytes();
    ENGRAM_RETURN_IF_ERROR(t_.files->read(t_.values, row * value_bytes, value_bytes, values));
    const int64_t scale_bytes = t_.geometry.scale_bytes();
    if (scale_bytes == 0) return {};
    return t_.files->read(t_.scales, row * scale_bytes, scale_bytes, scales);
  }

  std::string row_text(int64_t row) const override {
    const int64_t offset = t_.values.begin + row * t_.geometry.value_bytes();
    return "row " + std::to_string(row) + " (" + path() + ", " + t_.values.name + ", offset " +
           std::to_string(offset) + ")";
  }

 private:
  const TableTensors t_;
};

class FileSource : public TableSource {
 public:
  explicit FileSource(std::shared_ptr<const TableFile> file) : file_(std::move(file)) {}

  const TableGeometry& geometry() const override { return file_->header().geometry; }
  std::string version() const override { return file_->header().id; }
  std::string path() const override { return file_->path(); }
  std::shared_ptr<const TableFile> file() const override { return file_; }
  int64_t image_bytes() const override { return file_->header().data_bytes; }
  RowPlace place(const void* image) const override { return row_place(file_->header(), image); }

  Status load(void* image, const std::function<void(int64_t)>& on_bytes) const override {
    std::mutex mu;  // one thread at a time tells
    return run_jobs(file_->extents(), 0, [&](int64_t extent, void*) -> Status {
      const TableHeader& header = file_->header();
      const int64_t bytes = header.extent_size(extent);
      uint8_t* to = static_cast<uint8_t*>(image) + header.extent_at(extent);
      ENGRAM_RETURN_IF_ERROR(file_->read_data(header.extent_at(extent), bytes, to));
      ENGRAM_RETURN_IF_ERROR(file_->check_extent(extent, to));
      const std::lock_guard<std::mutex> lock(mu);
      if (on_bytes) on_bytes(bytes);
      return {};
    });
  }

  Status read_row(int64_t row, uint8_t* values, uint8_t* scales) const override {
    return file_->read_row(row, values, scales);
  }

  std::string row_text(int64_t row) const override {
    const TableHeader& header = file_->header();
    const int64_t offset = header.data_offset + header.values_at + row * header.value_stride;
    return "row " + std::to_string(row) + " (" + path() + ", offset " + std::to_string(offset) +
           ")";
  }

 private:
  const std::shared_ptr<const TableFile> file_;
};

class MappedSource : public TableSource {
 public:
  MappedSource(
      TableHeader header, const uint8_t* data, std::shared_ptr<const void> owner, std::string name)
      : header_(std::move(header)), data_(data), owner_(std::move(owner)), name_(std::move(name)) {}

  const TableGeometry& geometry() const override { return header_.geometry; }
  std::string version() const override { return header_.id; }
  std::string path() const override { return name_; }
  int64_t image_bytes() const override { return header_.data_bytes; }
  RowPlace place(const void* image) const override { return row_place(header_, image); }

  Status load(void* image, const std::function<void(int64_t)>& on_bytes) const override {
    std::memcpy(image, data_, static_cast<size_t>(header_.data_bytes));
    if (on_bytes) on_bytes(header_.data_bytes);
    return {};
  }
  Status read_row(int64_t row, uint8_t* values, uint8_t* scales) const override {
    const RowPlace place = row_place(header_, data_);
    const TableGeometry& g = header_.geometry;
    std::memcpy(
        values, place.values + row * place.value_stride, static_cast<size_t>(g.value_bytes()));
    if (g.scale_bytes() == 0) return {};
    std::memcpy(
        scales, place.scales + row * place.scale_stride, static_cast<size_t>(g.scale_bytes()));
    return {};
  }
  std::string row_text(int64_t row) const override {
    const int64_t offset = header_.values_at + row * header_.value_stride;
    return "row " + std::to_string(row) + " (" + name_ + ", byte " + std::to_string(offset) +
           " of the data)";
  }

 private:
  const TableHeader header_;
  const uint8_t* const data_;
  const std::shared_ptr<const void> owner_;
  const std::string name_;
};

}  // namespace

int64_t plain_image_bytes(const TableGeometry& geometry) {
  return scales_at(geometry) + geometry.rows * geometry.scale_bytes();
}

RowPlace plain_place(const TableGeometry& geometry, const void* image) {
  const uint8_t* base = static_cast<const uint8_t*>(image);
  RowPlace place;
  place.values = base;
  place.value_stride = geometry.value_bytes();
  place.scale_stride = geometry.scale_bytes();
  if (place.scale_stride > 0) place.scales = base + scales_at(geometry);
  return place;
}

std::shared_ptr<const TableSource> make_tensor_source(TableTensors tensors) {
  return std::make_shared<TensorSource>(std::move(tensors));
}

std::shared_ptr<const TableSource> make_mapped_source(
    TableHeader header, const uint8_t* data, std::shared_ptr<const void> owner, std::string name) {
  return std::make_shared<MappedSource>(std::move(header), data, std::move(owner), std::move(name));
}

std::shared_ptr<const TableSource> make_file_source(std::shared_ptr<const TableFile> file) {
  return std::make_shared<FileSource>(std::move(file));
}

}  // namespace engram::memory
