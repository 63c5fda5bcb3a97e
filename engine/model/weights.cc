#include "engine/model/weights.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <mutex>
#include <set>

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

// A contiguous part of a tensor on its way to its place.
struct Job {
  const TensorInfo* tensor = nullptr;
  int64_t offset = 0;  // bytes in the tensor
  int64_t bytes = 0;
  const Matrix* matrix = nullptr;  // rows [row, row + bytes / row bytes) of this
  int64_t row = 0;
};

// Checks presence, dtype and shape of every piece, and sets the dtypes of the matrices.
Result<std::vector<const TensorInfo*>> find_pieces(
    const TensorFiles& files, const std::vector<WeightPiece>& pieces) {
  std::vector<const TensorInfo*> tensors;
  for (const WeightPiece& piece : pieces) {
    const Result<const TensorInfo*> found =
        find_tensor(files, piece.name, {DType::kBf16, DType::kF16, DType::kF32}, piece.shape);
    if (!found.ok()) return found.status();
    const TensorInfo& tensor = *found.value();
    tensors.push_back(&tensor);
    if (piece.matrix == nullptr) continue;
    if (piece.first == 0) piece.matrix->dtype = tensor.dtype;
    if (piece.matrix->dtype != tensor.dtype) {
      return memory::invalid_argument(
          files.path(tensor) + ": " + piece.name + ": dtype is " + dtype_name(tensor.dtype) +
          ", expected " + dtype_name(piece.matrix->dtype) +
          ", as the tensors have that are multiplied together with it");
    }
  }
  return tensors;
}

Status check_surplus(
    const TensorFiles& files,
    const ModelConfig& config,
    const std::vector<WeightPiece>& pieces,
    const std::vector<TableGeometry>& geometries) {
  std::set<std::string> known;
  for (const WeightPiece& piece : pieces) known.insert(piece.name);
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

// Norm weights, biases and taps of all pieces, widened; matrices stay empty.
Result<std::vector<std::vector<float>>> read_vectors(
    const TensorFiles& files,
    const std::vector<WeightPiece>& pieces,
    const std::vector<const TensorInfo*>& tensors) {
  std::vector<std::vector<float>> values(pieces.size());
  std::vector<char> raw;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].vector == nullptr) continue;
    raw.resize(static_cast<size_t>(tensors[i]->bytes));
    ENGRAM_RETURN_IF_ERROR(files.read(*tensors[i], 0, tensors[i]->bytes, raw.data()));
    widen(tensors[i]->dtype, raw, &values[i]);
    const auto bad = std::find_if_not(
        values[i].begin(), values[i].end(), [](float x) { return std::isfinite(x); });
    if (bad != values[i].end()) {
      return memory::invalid_argument(
          files.path(*tensors[i]) + ": " + pieces[i].name + ": element " +
          std::to_string(bad - values[i].begin()) + " is " + std::to_string(*bad) +
          ", expected a finite number");
    }
  }
  return values;
}

void add_matrix_jobs(const WeightPiece& piece, const TensorInfo* tensor, std::vector<Job>* jobs) {
  const int64_t row_bytes = piece.cols * memory::dtype_bytes(tensor->dtype);
  int64_t step = std::max<int64_t>(1, memory::kLoadChunkBytes / row_bytes);
  if (step > 64) step -= step % 64;  // whole panels of a packed matrix, whatever their height
  for (int64_t row = 0; row < piece.rows; row += step) {
    Job& job = jobs->emplace_back();
    job.tensor = tensor;
    job.offset = row * row_bytes;
    job.bytes = std::min(step, piece.rows - row) * row_bytes;
    job.matrix = piece.matrix;
    job.row = piece.first + row;
  }
}

Status run_reads(
    const TensorFiles& files,
    const std::vector<Job>& jobs,
    Ops& ops,
    const std::function<void(const LoadProgress&)>& progress) {
  LoadProgress done;
  int64_t widest = 0;
  for (const Job& job : jobs) {
    done.bytes_total += job.bytes;
    widest = std::max(widest, job.bytes);
  }
  std::mutex mu;  // guards ops and done
  return memory::run_jobs(
      static_cast<int64_t>(jobs.size()), widest, [&](int64_t index, void* staging) -> Status {
        const Job& job = jobs[static_cast<size_t>(index)];
        ENGRAM_RETURN_IF_ERROR(files.read(*job.tensor, job.offset, job.bytes, staging));
        const std::lock_guard lock(mu);
        const Matrix& m = *job.matrix;
        const int64_t rows = job.bytes / (m.cols * memory::dtype_bytes(m.dtype));
        ops.load_rows(m, job.row, memory::make_view(staging, m.dtype, rows, m.cols));
        done.bytes_done += job.bytes;
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
  const Result<std::vector<const TensorInfo*>> tensors = find_pieces(files, pieces);
  if (!tensors.ok()) return tensors.status();
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
  const Result<std::vector<std::vector<float>>> vectors =
      read_vectors(files, pieces, tensors.value());
  if (!vectors.ok()) return vectors.status();

  ENGRAM_RETURN_IF_ERROR(place_weights(pieces, device, ops, &weights));
  std::vector<Job> jobs;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].matrix != nullptr) add_matrix_jobs(pieces[i], tensors.value()[i], &jobs);
  }
  open_tables(shared_files, geometries, &weights);
  ENGRAM_RETURN_IF_ERROR(run_reads(files, jobs, ops, progress));
  upload_vectors(pieces, vectors.value(), device);
  return weights;
}

}  // namespace engram::engine
