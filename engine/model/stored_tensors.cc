#include "engine/model/stored_tensors.h"

#include <algorithm>

namespace engram::engine {

using memory::DType;
using memory::Result;
using memory::RowCodec;
using memory::Status;
using memory::TableGeometry;
using memory::TensorFiles;
using memory::TensorInfo;

Result<const TensorInfo*> find_tensor(
    const TensorFiles& files,
    const std::string& name,
    std::initializer_list<DType> dtypes,
    const std::vector<int64_t>& shape) {
  const TensorInfo* tensor = files.find(name);
  if (tensor == nullptr) {
    return memory::invalid_argument(files.directory() + ": tensor " + name + " is missing");
  }
  const std::string where = files.path(*tensor) + ": " + name + ": ";
  if (std::find(dtypes.begin(), dtypes.end(), tensor->dtype) == dtypes.end()) {
    std::string expected;
    for (const DType dtype : dtypes) {
      expected += (expected.empty() ? "" : " or ") + std::string(dtype_name(dtype));
    }
    return memory::invalid_argument(
        where + "dtype is " + dtype_name(tensor->dtype) + ", expected " + expected);
  }
  if (tensor->shape != shape) {
    return memory::invalid_argument(
        where + "shape is " + memory::shape_text(tensor->shape) + ", expected " +
        memory::shape_text(shape));
  }
  return tensor;
}

Status compare_stored(
    const TensorFiles& files,
    const std::string& name,
    const std::string& where,
    const std::vector<int64_t>& derived) {
  const Result<const TensorInfo*> tensor =
      find_tensor(files, name, {DType::kI64}, {static_cast<int64_t>(derived.size())});
  if (!tensor.ok()) return tensor.status();
  std::vector<int64_t> stored(derived.size());
  ENGRAM_RETURN_IF_ERROR(files.read(*tensor.value(), 0, tensor.value()->bytes, stored.data()));
  const std::string what = name.substr(name.rfind('.') + 1);
  for (size_t i = 0; i < stored.size(); ++i) {
    if (stored[i] == derived[i]) continue;
    return memory::invalid_argument(
        files.path(*tensor.value()) + ": " + where + what + "[" + std::to_string(i) + "] is " +
        std::to_string(stored[i]) + ", expected " + std::to_string(derived[i]) +
        " by derivation from config.json");
  }
  return {};
}

RowCodec codec_of(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return RowCodec::kF32;
    case DType::kF16:
      return RowCodec::kF16;
    case DType::kF8E4m3:
      return RowCodec::kF8Ue8m0;
    default:
      return RowCodec::kBf16;
  }
}

Status check_stored_table(
    const TensorFiles& files,
    const std::string& weight,
    const std::string& scale,
    TableGeometry* g) {
  const TensorInfo* stored = files.find(weight);
  if (stored != nullptr && stored->shape.size() == 2 && stored->shape[0] != g->rows) {
    return memory::invalid_argument(
        files.path(*stored) + ": " + weight + ": has " + std::to_string(stored->shape[0]) +
        " rows, expected " + std::to_string(g->rows) + ", the sum of the moduli");
  }
  const Result<const TensorInfo*> table = find_tensor(
      files, weight, {DType::kBf16, DType::kF16, DType::kF32, DType::kF8E4m3},
      {g->rows, g->row_width});
  if (!table.ok()) return table.status();
  g->codec = codec_of(table.value()->dtype);
  if (g->codec != RowCodec::kF8Ue8m0) return {};
  const int64_t per_scale = g->scale_group();
  if (g->row_width % per_scale != 0) {
    return memory::invalid_argument(
        files.path(*table.value()) + ": " + weight + ": f8_e4m3 rows of " +
        std::to_string(g->row_width) + " values, expected a multiple of " +
        std::to_string(per_scale));
  }
  return find_tensor(
             files, scale, {DType::kU8, DType::kF8E8m0}, {g->rows, g->row_width / per_scale})
      .status();
}

}  // namespace engram::engine
