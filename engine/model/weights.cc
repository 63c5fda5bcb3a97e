#include "engine/model/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>
#include <set>

#include "engine/model/fp8_weights.h"
#include "engine/model/hash_constants.h"
#include "engine/model/stored_tensors.h"
#include "engine/model/weight_rules.h"
#include "memory/base/sha256.h"
#include "memory/io/parallel_load.h"
#include "memory/io/safetensors.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::Status;
using memory::TableGeometry;
using memory::TensorFiles;
using memory::TensorInfo;

// What of the checkpoint a piece is.
struct Stored {
  const TensorInfo* tensor = nullptr;
  const TensorInfo* scales = nullptr;  // of f8_e4m3 weights
};

// A contiguous part of a tensor on its way to its place: whole rows.
struct Job {
  const WeightPiece* piece = nullptr;
  const TensorInfo* tensor = nullptr;
  int64_t row = 0;  // of the tensor
  int64_t rows = 0;
  float* scales = nullptr;  // where those of its blocks go, when it is quantised

  int64_t row_bytes() const { return piece->cols * memory::dtype_bytes(tensor->dtype); }
  int64_t bytes() const { return rows * row_bytes(); }
  // Of staging memory: the rows as stored and, behind them, their codes.
  int64_t staging_bytes() const { return bytes() + (piece->quantize ? rows * piece->cols : 0); }
};

Result<Stored> find_piece(const TensorFiles& files, const WeightPiece& piece) {
  Stored stored;
  if (piece.scale_name.empty()) {
    const Result<const TensorInfo*> found =
        find_tensor(files, piece.name, {DType::kBf16, DType::kF16, DType::kF32}, piece.shape);
    if (!found.ok()) return found.status();
    stored.tensor = found.value();
    return stored;
  }
  const Result<const TensorInfo*> found =
      find_tensor(files, piece.name, {DType::kF8E4m3}, piece.shape);
  if (!found.ok()) return found.status();
  stored.tensor = found.value();
  const Result<const TensorInfo*> scales = find_tensor(
      files, piece.scale_name, {DType::kF32, DType::kBf16, DType::kF16}, piece.scale_shape());
  if (!scales.ok()) return scales.status();
  stored.scales = scales.value();
  return stored;
}

// Checks presence, dtype and shape of every piece, and sets the dtypes of the matrices.
Result<std::vector<Stored>> find_pieces(
    const TensorFiles& files, const std::vector<WeightPiece>& pieces) {
  std::vector<Stored> all;
  for (const WeightPiece& piece : pieces) {
    const Result<Stored> found = find_piece(files, piece);
    if (!found.ok()) return found.status();
    all.push_back(found.value());
    if (piece.matrix == nullptr) continue;
    const DType stored = found.value().tensor->dtype;
    const DType dtype = piece.quantize ? DType::kF8E4m3 : stored;
    if (piece.first == 0) piece.matrix->dtype = dtype;
    if (piece.matrix->dtype != dtype) {
      return memory::invalid_argument(
          files.path(*found.value().tensor) + ": " + piece.name + ": dtype is " +
          dtype_name(stored) + ", expected " + dtype_name(piece.matrix->dtype) +
          ", as the tensors have that are multiplied together with it");
    }
  }
  return all;
}

Status check_surplus(
    const TensorFiles& files,
    const ModelConfig& config,
    const std::vector<WeightPiece>& pieces,
    const std::vector<TableGeometry>& geometries) {
  std::set<std::string> known;
  for (const WeightPiece& piece : pieces) {
    known.insert(piece.name);
    if (!piece.scale_name.empty()) known.insert(piece.scale_name);
  }
  for (const TableGeometry& g : geometries) {
    const std::string prefix = engram_prefix(g.layer);
    known.insert({prefix + "embedding.weight", prefix + "multipliers", prefix + "moduli"});
    if (g.scale_bytes() > 0) known.insert(prefix + "embedding.scale");
    known.insert(kTokenMapTensor);
  }
  for (const TensorInfo& tensor : files.tensors()) {
    if (known.count(tensor.name) != 0 || is_ignored_tensor(config, tensor.name)) continue;
    return memory::invalid_argument(
        files.path(tensor) + ": " + tensor.name +
        ": is a surplus tensor, which the model of config.json does not have");
  }
  return {};
}

void widen(DType dtype, const std::vector<char>& raw, std::vector<float>* out) {
  const size_t count = raw.size() / static_cast<size_t>(memory::dtype_bytes(dtype));
  out->resize(count);
  for (size_t i = 0; i < count; ++i) {
    if (dtype == DType::kF32) {
      std::memcpy(&(*out)[i], &raw[4 * i], 4);
      continue;
    }
    uint16_t bits = 0;
    std::memcpy(&bits, &raw[2 * i], 2);
    (*out)[i] = dtype == DType::kBf16 ? std::bit_cast<float>(uint32_t{bits} << 16)
                                      : memory::half_to_float({bits});
  }
}

// A tensor of finite numbers, widened.
Status read_floats(const TensorFiles& files, const TensorInfo& tensor, std::vector<float>* values) {
  std::vector<char> raw(static_cast<size_t>(tensor.bytes));
  ENGRAM_RETURN_IF_ERROR(files.read(tensor, 0, tensor.bytes, raw.data()));
  widen(tensor.dtype, raw, values);
  const auto bad =
      std::find_if_not(values->begin(), values->end(), [](float x) { return std::isfinite(x); });
  if (bad == values->end()) return {};
  return memory::invalid_argument(
      files.path(tensor) + ": " + tensor.name + ": element " +
      std::to_string(bad - values->begin()) + " is " + std::to_string(*bad) +
      ", expected a finite number");
}

// Norm weights, biases and taps of all pieces, and scales of f8_e4m3 weights; those of weights that
// will be quantised are not known yet, and other matrices have none.
Result<std::vector<std::vector<float>>> read_vectors(
    const TensorFiles& files,
    const std::vector<WeightPiece>& pieces,
    const std::vector<Stored>& stored) {
  std::vector<std::vector<float>> values(pieces.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    const WeightPiece& piece = pieces[i];
    if (piece.quantize) {
      values[i].resize(static_cast<size_t>(piece.scale_shape()[0] * piece.scale_shape()[1]));
      continue;
    }
    const TensorInfo* tensor = piece.vector != nullptr ? stored[i].tensor : stored[i].scales;
    if (tensor != nullptr) ENGRAM_RETURN_IF_ERROR(read_floats(files, *tensor, &values[i]));
  }
  return values;
}

// `scales` are those of a piece that will be quantised.
void add_matrix_jobs(
    const WeightPiece& piece, const TensorInfo* tensor, float* scales, std::vector<Job>* jobs) {
  Job job{.piece = &piece, .tensor = tensor};
  int64_t step = std::max<int64_t>(1, memory::kLoadChunkBytes / job.row_bytes());
  // Whole blocks of scales, and whole panels of a packed matrix, whatever their height.
  const int64_t unit = piece.quantize ? kMaxScaleRows : 64;
  if (step > unit) step -= step % unit;
  if (piece.quantize) step = std::max(step, unit);
  for (int64_t row = 0; row < piece.rows; row += step) {
    job.row = row;
    job.rows = std::min(step, piece.rows - row);
    if (piece.quantize) job.scales = scales + row / kMaxScaleRows * piece.scale_shape()[1];
    jobs->push_back(job);
  }
}

// "mlp.up_proj.weight" of "model.layers.3.mlp.up_proj.weight".
std::string name_in_layer(const std::string& name) {
  size_t at = 0;
  for (int dots = 0; dots < 3; ++dots) at = name.find('.', at) + 1;
  return name.substr(at);
}

// The rows of a job as they go to memory. `staging` holds them as stored.
Result<View> finished_rows(
    const TensorFiles& files, const Job& job, char* staging, Fp8Error* error) {
  const WeightPiece& piece = *job.piece;
  const View stored = memory::make_view(staging, job.tensor->dtype, job.rows, piece.cols);
  const std::string where = files.path(*job.tensor) + ": " + piece.name + ": ";
  if (piece.quantize) {
    uint8_t* codes = reinterpret_cast<uint8_t*>(staging + job.bytes());
    if (quantize_fp8(stored, codes, job.scales, error)) {
      return memory::make_view(codes, DType::kF8E4m3, job.rows, piece.cols);
    }
    return memory::invalid_argument(
        where + "rows " + std::to_string(job.row) + " to " +
        std::to_string(job.row + job.rows - 1) +
        " hold NaN or infinity, expected finite numbers, as they are to be quantised");
  }
  if (stored.dtype != DType::kF8E4m3) return stored;
  const int64_t at = find_nan_code(stored.as<uint8_t>(), job.rows * piece.cols);
  if (at < 0) return stored;
  return memory::invalid_argument(
      where + "row " + std::to_string(job.row + at / piece.cols) + ", column " +
      std::to_string(at % piece.cols) + " is NaN, expected a finite f8_e4m3 number");
}

Status run_reads(
    const TensorFiles& files,
    const std::vector<Job>& jobs,
    Ops& ops,
    const std::function<void(const LoadProgress&)>& progress,
    std::map<std::string, Fp8Error>* errors) {
  LoadProgress done;
  int64_t widest = 0;
  for (const Job& job : jobs) {
    done.bytes_total += job.bytes();
    widest = std::max(widest, job.staging_bytes());
  }
  std::mutex mu;  // guards ops, done and errors
  return memory::run_jobs(
      static_cast<int64_t>(jobs.size()), widest, [&](int64_t index, void* staging) -> Status {
        const Job& job = jobs[static_cast<size_t>(index)];
        ENGRAM_RETURN_IF_ERROR(
            files.read(*job.tensor, job.row * job.row_bytes(), job.bytes(), staging));
        Fp8Error error;
        const Result<View> rows = finished_rows(files, job, static_cast<char*>(staging), &error);
        if (!rows.ok()) return rows.status();
        const std::lock_guard lock(mu);
        if (job.piece->quantize) (*errors)[name_in_layer(job.piece->name)] += error;
        ops.load_rows(*job.piece->matrix, job.piece->first + job.row, rows.value());
        done.bytes_done += job.bytes();
        if (progress) progress(done);
        return {};
      });
}

void open_tables(
    std::shared_ptr<const TensorFiles> files,
    const std::vector<TableGeometry>& geometries,
    Weights* weights) {
  for (const TableGeometry& g : geometries) {
    const std::string prefix = engram_prefix(g.layer);
    memory::TableTensors tensors{.files = files, .geometry = g, .values = {}, .scales = {}};
    tensors.values = *files->find(prefix + "embedding.weight");
    if (g.scale_bytes() > 0) tensors.scales = *files->find(prefix + "embedding.scale");
    weights->tables.push_back(memory::make_tensor_source(std::move(tensors)));
  }
}

}  // namespace

std::array<uint8_t, 32> token_map_sha256(const TokenMap& map) {
  static_assert(std::endian::native == std::endian::little);
  return memory::sha256(map.canonical.data(), std::ssize(map.canonical) * 4);
}

memory::TableRequest table_request(const Weights& weights) {
  memory::TableRequest request;
  for (const auto& table : weights.tables) request.wanted.push_back(table->geometry());
  request.sources = weights.tables;
  request.token_map_sha256 = token_map_sha256(weights.token_map);
  return request;
}

Result<Weights> load_weights(
    const std::string& directory,
    const ModelConfig& config,
    int64_t tokenizer_size,
    memory::Device& device,
    Ops& ops,
    const std::function<void(const LoadProgress&)>& progress) {
  Result<TensorFiles> opened = TensorFiles::open(directory);
  if (!opened.ok()) return opened.status();
  const auto shared_files = std::make_shared<const TensorFiles>(std::move(opened).value());
  const TensorFiles& files = *shared_files;
  Weights weights;
  const std::vector<WeightPiece> pieces = plan_pieces(config, &weights);
  const Result<std::vector<Stored>> stored = find_pieces(files, pieces);
  if (!stored.ok()) return stored.status();
  std::vector<TableGeometry> geometries;
  if (!config.engram.layer_ids.empty()) {
    Result<TokenMap> map = load_token_map(files, config.engram, tokenizer_size);
    if (!map.ok()) return map.status();
    weights.token_map = std::move(map).value();
    Result<std::vector<TableGeometry>> checked =
        check_hash_constants(files, config.engram, weights.token_map.pad);
    if (!checked.ok()) return checked.status();
    geometries = std::move(checked).value();
  }
  ENGRAM_RETURN_IF_ERROR(check_surplus(files, config, pieces, geometries));
  Result<std::vector<std::vector<float>>> vectors = read_vectors(files, pieces, stored.value());
  if (!vectors.ok()) return vectors.status();

  ENGRAM_RETURN_IF_ERROR(place_weights(pieces, device, ops, &weights));
  std::vector<Job> jobs;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].matrix == nullptr) continue;
    add_matrix_jobs(pieces[i], stored.value()[i].tensor, vectors.value()[i].data(), &jobs);
  }
  open_tables(shared_files, geometries, &weights);
  ENGRAM_RETURN_IF_ERROR(run_reads(files, jobs, ops, progress, &weights.fp8_errors));
  upload_vectors(pieces, vectors.value(), device);
  return weights;
}

}  // namespace engram::engine
