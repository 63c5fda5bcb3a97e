#include <algorithm>
#include <cmath>
#include <mutex>

#include "engine/model/fp8_weights.h"
#include "engine/model/hash_families.h"
#include "engine/model/weight_rules.h"
#include "engine/model/weights.h"
#include "memory/io/parallel_load.h"
#include "memory/table/synthetic_rows.h"

namespace engram::engine {
namespace {

using memory::Bf16;
using memory::kLoadChunkBytes;
using memory::Result;
using memory::RowCodec;
using memory::run_jobs;
using memory::Status;

uint32_t scramble(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

uint32_t name_hash(const std::string& name) {
  uint32_t h = 2166136261u;  // FNV-1a
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 16777619u;
  return h;
}

// Uniform values of that standard deviation: hashes of seed, row and column.
void fill_row(uint32_t seed, int64_t row, float deviation, int64_t count, Bf16* out) {
  const uint32_t base =
      scramble(seed + scramble(static_cast<uint32_t>(row) ^ static_cast<uint32_t>(row >> 32)));
  const float unit = deviation * std::sqrt(3.f) * 0x1p-31f;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t h = scramble(base + static_cast<uint32_t>(i));
    out[i] = Bf16(static_cast<float>(static_cast<int32_t>(h)) * unit);
  }
}

// `scales` are those of an f8_e4m3 piece, by blocks.
Status fill_matrix(const WeightPiece& piece, float* scales, Ops& ops) {
  // Unit variance in, unit variance out; embedding rows are the input of the first norm.
  const float deviation = 1.f / std::sqrt(static_cast<float>(piece.cols));
  const uint32_t seed = name_hash(piece.name);
  constexpr int64_t kUnit = kMaxScaleRows;  // whole panels and whole blocks of scales
  const int64_t row_bytes = piece.cols * 2;
  const int64_t step = std::max<int64_t>(kUnit, kLoadChunkBytes / row_bytes / kUnit * kUnit);
  const int64_t code_bytes = piece.fp8() ? step * piece.cols : 0;
  std::mutex mu;  // guards ops
  const auto fill = [&](int64_t job, void* staging) -> Status {
    const int64_t first = job * step;
    View rows =
        memory::make_view(staging, DType::kBf16, std::min(step, piece.rows - first), piece.cols);
    for (int64_t i = 0; i < rows.rows; ++i) {
      fill_row(seed, first + i, deviation, piece.cols, rows.row<Bf16>(i));
    }
    if (piece.fp8()) {
      uint8_t* codes = static_cast<uint8_t*>(staging) + step * row_bytes;
      float* to = scales + first / kMaxScaleRows * piece.scale_shape()[1];
      ENGRAM_CHECK(quantize_fp8(rows, codes, to, nullptr));
      rows = memory::make_view(codes, DType::kF8E4m3, rows.rows, piece.cols);
    }
    const std::lock_guard lock(mu);
    ops.load_rows(*piece.matrix, piece.first + first, rows);
    return {};
  };
  return run_jobs((piece.rows + step - 1) / step, step * row_bytes + code_bytes, fill);
}

std::vector<float> vector_values(const WeightPiece& piece) {
  const uint32_t seed = name_hash(piece.name);
  std::vector<float> values(static_cast<size_t>(piece.rows * piece.cols));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t h = scramble(seed + static_cast<uint32_t>(i));
    const float noise = 0.1f * 0x1p-31f * static_cast<float>(static_cast<int32_t>(h));
    values[i] = (piece.norm ? 1.f : 0.f) + noise;
  }
  return values;
}

// Rows made when they are asked for.
class DummyTable : public memory::TableSource {
 public:
  explicit DummyTable(memory::TableGeometry geometry) : geometry_(std::move(geometry)) {}

  const memory::TableGeometry& geometry() const override { return geometry_; }
  std::string version() const override { return "dummy"; }
  std::string path() const override { return "dummy weights"; }
  int64_t image_bytes() const override { return memory::plain_image_bytes(geometry_); }
  memory::RowPlace place(const void* image) const override {
    return memory::plain_place(geometry_, image);
  }

  Status load(void* image, const std::function<void(int64_t)>& on_bytes) const override {
    const memory::RowPlace at = memory::plain_place(geometry_, image);
    uint8_t* base = static_cast<uint8_t*>(image);
    const int64_t to_scales = at.scales == nullptr ? 0 : at.scales - base;
    const int64_t row_bytes = at.value_stride + at.scale_stride;
    const int64_t step = std::max<int64_t>(1, kLoadChunkBytes / row_bytes);
    std::mutex mu;  // one thread at a time tells
    return run_jobs((geometry_.rows + step - 1) / step, 0, [&](int64_t job, void*) -> Status {
      const int64_t first = job * step;
      const int64_t end = std::min(geometry_.rows, first + step);
      uint8_t* scales = to_scales == 0 ? nullptr : base + to_scales + first * at.scale_stride;
      fill(first, end - first, base + first * at.value_stride, scales);
      const std::lock_guard<std::mutex> lock(mu);
      if (on_bytes) on_bytes((end - first) * row_bytes);
      return {};
    });
  }
  Status read_row(int64_t row, uint8_t* values, uint8_t* scales) const override {
    fill(row, 1, values, scales);
    return {};
  }
  std::string row_text(int64_t row) const override {
    return "row " + std::to_string(row) + " of the dummy weights";
  }

 private:
  // `count` rows from `first` on, and their scales where they have any, without gaps.
  void fill(int64_t first, int64_t count, uint8_t* values, uint8_t* scales) const {
    const int64_t value_bytes = geometry_.value_bytes();
    if (geometry_.codec != RowCodec::kBf16) {
      memory::make_synthetic_rows(
          geometry_, first, count, values, value_bytes, scales, geometry_.scale_bytes());
      return;
    }
    for (int64_t i = 0; i < count; ++i, values += value_bytes) {
      fill_row(seed_, first + i, 1.f, geometry_.row_width, reinterpret_cast<Bf16*>(values));
    }
  }

  const memory::TableGeometry geometry_;
  const uint32_t seed_ = name_hash("table") + static_cast<uint32_t>(geometry_.layer);
};

// As if the first C tokens were distinct words and all others spellings of them.
TokenMap make_token_map(const ModelConfig& config) {
  TokenMap map;
  map.canonical.resize(static_cast<size_t>(config.vocab_size));
  for (size_t raw = 0; raw < map.canonical.size(); ++raw) {
    map.canonical[raw] =
        static_cast<int32_t>(static_cast<int64_t>(raw) % config.engram.compressed_vocab_size);
  }
  map.pad = map.canonical[static_cast<size_t>(config.engram.pad_token_id)];
  return map;
}

Status add_tables(const ModelConfig& config, RowCodec codec, Weights* weights) {
  if (config.engram.layer_ids.empty()) return {};
  const Result<memory::TableGeometry> shape = dummy_row_shape(config.engram.head_dim, codec);
  if (!shape.ok()) return shape.status();
  weights->token_map = make_token_map(config);
  for (memory::TableGeometry& g : derive_geometries(config.engram, codec, weights->token_map.pad)) {
    g.group = shape.value().group;
    weights->tables.push_back(std::make_shared<DummyTable>(g));
  }
  return {};
}

}  // namespace

Result<memory::TableGeometry> dummy_row_shape(int64_t row_width, RowCodec codec) {
  memory::TableGeometry shape;
  shape.row_width = row_width;
  shape.codec = codec;
  shape.group = row_width % 32 == 0 ? 32 : 16;
  if (memory::check_codec(shape).ok()) return shape;
  return memory::invalid_argument(
      std::string("--table-codec ") + memory::row_codec_name(codec) +
      " cannot store the model's rows of " + std::to_string(row_width) +
      " values: it needs a multiple of " + std::to_string(shape.scale_group()));
}

Result<memory::TableRequest> dummy_table_request(const ModelConfig& config, RowCodec codec) {
  Weights weights;
  ENGRAM_RETURN_IF_ERROR(add_tables(config, codec, &weights));
  return table_request(weights);
}

Result<Weights> make_dummy_weights(
    const ModelConfig& config, memory::Device& device, Ops& ops, RowCodec codec) {
  Weights weights;
  const std::vector<WeightPiece> pieces = plan_pieces(config, &weights);
  for (const WeightPiece& piece : pieces) {
    if (piece.matrix == nullptr) continue;
    if (piece.fp8() == (piece.matrix->dtype == DType::kF8E4m3)) continue;
    return memory::invalid_argument(
        "config.json: quantization_config.modules_to_not_convert parts " + piece.name +
        " from tensors that are multiplied together with it");
  }
  ENGRAM_RETURN_IF_ERROR(place_weights(pieces, device, ops, &weights));
  std::vector<std::vector<float>> vectors;
  for (const WeightPiece& piece : pieces) {
    std::vector<float>& values = vectors.emplace_back();
    if (piece.matrix != nullptr) {
      if (piece.fp8()) {
        values.resize(static_cast<size_t>(piece.scale_shape()[0] * piece.scale_shape()[1]));
      }
      ENGRAM_RETURN_IF_ERROR(fill_matrix(piece, values.data(), ops));
    } else {
      values = vector_values(piece);
    }
  }
  upload_vectors(pieces, vectors, device);
  ENGRAM_RETURN_IF_ERROR(add_tables(config, codec, &weights));
  return weights;
}

}  // namespace engram::engine
