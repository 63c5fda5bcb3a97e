#include "memory/io/safetensors.h"

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <set>

#include "memory/io/json.h"

namespace engram::memory {
namespace {

using nlohmann::json;

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's own library
constexpr int64_t kMaxIndexBytes = 100'000'000;
constexpr size_t kMaxRank = 8;
// Larger than any file, small enough that 8 bytes per element stay below 2^63.
constexpr int64_t kMaxElements = int64_t{1} << 56;

struct DTypeName {
  const char* name;
  DType dtype;
};

constexpr DTypeName kDTypes[] = {
    {"F64", DType::kF64},   {"F32", DType::kF32},        {"F16", DType::kF16},
    {"BF16", DType::kBf16}, {"F8_E4M3", DType::kF8E4m3}, {"F8_E8M0", DType::kF8E8m0},
    {"I64", DType::kI64},   {"I32", DType::kI32},        {"U8", DType::kU8},
    {"I8", DType::kI8},     {"BOOL", DType::kBool},      {"F8_E5M2", DType::kF8E5m2},
    {"I16", DType::kI16},   {"U16", DType::kU16},        {"U32", DType::kU32},
    {"U64", DType::kU64},
};

// A whole number from 0 to 2^56, or nothing.
std::optional<int64_t> count_of(const json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  const uint64_t n = value.get<uint64_t>();
  if (n > static_cast<uint64_t>(kMaxElements)) return std::nullopt;
  return static_cast<int64_t>(n);
}

Status parse_dtype(const json& value, const std::string& where, TensorInfo* tensor) {
  if (!value.is_string()) {
    return invalid_argument(where + ": dtype is " + json_excerpt(value) + ", expected a string");
  }
  for (const DTypeName& known : kDTypes) {
    if (value == known.name) {
      tensor->dtype = known.dtype;
      return {};
    }
  }
  return invalid_argument(where + ": unknown dtype " + json_excerpt(value));
}

Status parse_shape(const json& value, const std::string& where, TensorInfo* tensor) {
  if (!value.is_array() || value.size() > kMaxRank) {
    return invalid_argument(
        where + ": shape is " + json_excerpt(value) + ", expected a list of at most " +
        std::to_string(kMaxRank) + " sizes");
  }
  int64_t elements = 1;
  bool empty = false;
  for (const json& entry : value) {
    const std::optional<int64_t> size = count_of(entry);
    if (!size) {
      return invalid_argument(
          where + ": shape holds " + json_excerpt(entry) + ", expected a whole number up to 2^56");
    }
    tensor->shape.push_back(*size);
    empty = empty || *size == 0;
    if (*size > 0 && elements > kMaxElements / *size) {
      return invalid_argument(where + ": shape " + json_excerpt(value) + " overflows");
    }
    elements *= std::max<int64_t>(*size, 1);
  }
  tensor->bytes = empty ? 0 : elements * dtype_bytes(tensor->dtype);
  return {};
}

Status parse_offsets(const json& value, const std::string& where, TensorInfo* tensor) {
  std::optional<int64_t> begin;
  std::optional<int64_t> end;
  if (value.is_array() && value.size() == 2) {
    begin = count_of(value[0]);
    end = count_of(value[1]);
  }
  if (!begin || !end || *begin > *end) {
    return invalid_argument(
        where + ": data_offsets is " + json_excerpt(value) +
        ", expected [begin, end] with begin <= end");
  }
  if (*end - *begin != tensor->bytes) {
    return invalid_argument(
        where + ": data_offsets " + json_excerpt(value) + " hold " + std::to_string(*end - *begin) +
        " bytes, expected " + std::to_string(tensor->bytes) + " for " + dtype_name(tensor->dtype) +
        " " + shape_text(tensor->shape));
  }
  tensor->begin = *begin;
  return {};
}

Status parse_tensor(const json& value, const std::string& where, TensorInfo* tensor) {
  if (!value.is_object()) {
    return invalid_argument(where + ": is " + json_excerpt(value) + ", expected an object");
  }
  for (const char* field : {"dtype", "shape", "data_offsets"}) {
    if (!value.contains(field)) return invalid_argument(where + ": has no " + field);
  }
  if (value.size() != 3) {
    return invalid_argument(where + ": has fields beside dtype, shape and data_offsets");
  }
  ENGRAM_RETURN_IF_ERROR(parse_dtype(value["dtype"], where, tensor));
  ENGRAM_RETURN_IF_ERROR(parse_shape(value["shape"], where, tensor));
  return parse_offsets(value["data_offsets"], where, tensor);
}

Status check_metadata(const json& value, const std::string& name) {
  if (!value.is_object()) {
    return invalid_argument(
        name + ": __metadata__ is " + json_excerpt(value) + ", expected an object of strings");
  }
  for (const auto& [key, entry] : value.items()) {
    if (!entry.is_string()) {
      return invalid_argument(
          name + ": __metadata__." + key + " is " + json_excerpt(entry) + ", expected a string");
    }
  }
  return {};
}

// Tensors sorted by place must tile [0, data_bytes).
Status check_layout(
    const std::vector<TensorInfo>& tensors, int64_t data_bytes, const std::string& name) {
  int64_t covered = 0;
  const TensorInfo* before = nullptr;
  for (const TensorInfo& t : tensors) {
    const std::string where = name + ": " + t.name;
    if (t.begin < covered) {
      return invalid_argument(
          where + ": begins at byte " + std::to_string(t.begin) + " and overlaps " +
          (before != nullptr ? before->name : "") + ", which ends at " + std::to_string(covered));
    }
    if (t.begin > covered) {
      return invalid_argument(
          where + ": begins at byte " + std::to_string(t.begin) + ", leaving a hole after byte " +
          std::to_string(covered));
    }
    covered = t.begin + t.bytes;
    if (covered > data_bytes) {
      return invalid_argument(
          where + ": ends at byte " + std::to_string(covered) + " of the data, the file has " +
          std::to_string(data_bytes) + " (truncated?)");
    }
    before = &t;
  }
  if (covered < data_bytes) {
    return invalid_argument(
        name + ": " + std::to_string(data_bytes - covered) +
        " bytes after the last tensor belong to none");
  }
  return {};
}

using ShardMap = std::map<std::string, std::string>;  // tensor -> shard file name

Result<ShardMap> parse_index(const std::string& text, const std::string& name) {
  const Result<json> index = parse_json(text, name);
  if (!index.ok()) return index.status();
  const json& root = index.value();
  if (!root.is_object() || !root.contains("weight_map") || !root["weight_map"].is_object()) {
    return invalid_argument(name + ": has no object weight_map");
  }
  ShardMap shard_of;
  for (const auto& [tensor, shard] : root["weight_map"].items()) {
    const std::string where = name + ": weight_map." + tensor;
    if (!shard.is_string()) {
      return invalid_argument(where + " is " + json_excerpt(shard) + ", expected a file name");
    }
    const std::string file = shard.get<std::string>();
    if (file.empty() || file[0] == '.' || file.find('/') != std::string::npos ||
        file.find('\0') != std::string::npos) {
      return invalid_argument(
          where + " is " + json_excerpt(shard) + ", expected a file name of the same directory");
    }
    shard_of[tensor] = file;
  }
  if (shard_of.empty()) return invalid_argument(name + ": weight_map is empty");
  return shard_of;
}

}  // namespace

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  }
  return text + "]";
}

Result<std::vector<TensorInfo>> parse_safetensors_header(
    std::string_view header, int64_t data_bytes, const std::string& name) {
  if (header.empty() || header[0] != '{') {
    return invalid_argument(name + ": the header does not begin with '{'");
  }
  const Result<json> parsed = parse_json(header, name + ": header");
  if (!parsed.ok()) return parsed.status();
  std::vector<TensorInfo> tensors;
  for (const auto& [key, value] : parsed.value().items()) {
    if (key == "__metadata__") {
      ENGRAM_RETURN_IF_ERROR(check_metadata(value, name));
      continue;
    }
    TensorInfo& tensor = tensors.emplace_back();
    tensor.name = key;
    ENGRAM_RETURN_IF_ERROR(parse_tensor(value, name + ": " + key, &tensor));
  }
  std::sort(tensors.begin(), tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.bytes < b.bytes;
  });
  ENGRAM_RETURN_IF_ERROR(check_layout(tensors, data_bytes, name));
  return tensors;
}

Status TensorFiles::add_file(const std::string& path) {
  Result<File> opened = File::open(path);
  if (!opened.ok()) return opened.status();
  const File& file = opened.value();
  if (file.bytes() < kLengthBytes) {
    return invalid_argument(
        path + ": " + std::to_string(file.bytes()) + " bytes, expected a length of 8 bytes first");
  }
  uint64_t length = 0;
  static_assert(std::endian::native == std::endian::little);
  ENGRAM_RETURN_IF_ERROR(file.read(0, kLengthBytes, &length));
  const int64_t rest = file.bytes() - kLengthBytes;
  if (length > static_cast<uint64_t>(rest)) {
    return invalid_argument(
        path + ": header of " + std::to_string(length) + " bytes in a file of " +
        std::to_string(file.bytes()));
  }
  if (length > static_cast<uint64_t>(kMaxHeaderBytes)) {
    return invalid_argument(
        path + ": header of " + std::to_string(length) + " bytes, expected at most " +
        std::to_string(kMaxHeaderBytes));
  }
  const int64_t header_bytes = static_cast<int64_t>(length);
  std::string header(length, '\0');
  ENGRAM_RETURN_IF_ERROR(file.read(kLengthBytes, header_bytes, header.data()));
  Result<std::vector<TensorInfo>> parsed =
      parse_safetensors_header(header, rest - header_bytes, path);
  if (!parsed.ok()) return parsed.status();
  for (TensorInfo& tensor : parsed.value()) {
    tensor.begin += kLengthBytes + header_bytes;
    tensor.file = static_cast<int>(files_.size());
    tensors_.push_back(std::move(tensor));
  }
  files_.push_back(std::move(opened).value());
  return {};
}

Result<TensorFiles> TensorFiles::open(const std::string& directory) {
  TensorFiles result;
  result.directory_ = directory;
  const std::string index_path = directory + "/model.safetensors.index.json";
  const Result<std::string> index = read_text_file(index_path, kMaxIndexBytes);
  if (index.status().code() == Code::kNotFound) {
    const Status added = result.add_file(directory + "/model.safetensors");
    if (added.code() == Code::kNotFound) {
      return not_found(
          directory + ": holds neither model.safetensors nor model.safetensors.index.json");
    }
    ENGRAM_RETURN_IF_ERROR(added);
    ENGRAM_RETURN_IF_ERROR(result.sort_tensors());
    return result;
  }
  if (!index.ok()) return index.status();
  const Result<ShardMap> shard_of = parse_index(index.value(), index_path);
  if (!shard_of.ok()) return shard_of.status();
  std::set<std::string> shards;
  for (const auto& [tensor, shard] : shard_of.value()) shards.insert(shard);
  for (const std::string& shard : shards) {
    ENGRAM_RETURN_IF_ERROR(result.add_file(directory + "/" + shard));
  }
  ENGRAM_RETURN_IF_ERROR(result.sort_tensors());
  for (const auto& [tensor, shard] : shard_of.value()) {
    const TensorInfo* found = result.find(tensor);
    if (found == nullptr || result.path(*found) != directory + "/" + shard) {
      return invalid_argument(index_path + ": " + tensor + ": is not in " + shard);
    }
  }
  for (const TensorInfo& tensor : result.tensors_) {
    if (shard_of.value().count(tensor.name) == 0) {
      return invalid_argument(
          result.path(tensor) + ": " + tensor.name + ": is not in the index " + index_path);
    }
  }
  return result;
}

Result<TensorFiles> TensorFiles::open_file(const std::string& directory, const std::string& name) {
  TensorFiles result;
  result.directory_ = directory;
  ENGRAM_RETURN_IF_ERROR(result.add_file(directory + "/" + name));
  ENGRAM_RETURN_IF_ERROR(result.sort_tensors());
  return result;
}

Status TensorFiles::sort_tensors() {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return a.name != b.name ? a.name < b.name : a.file < b.file;
  });
  for (size_t i = 1; i < tensors_.size(); ++i) {
    if (tensors_[i].name == tensors_[i - 1].name) {
      return invalid_argument(
          path(tensors_[i]) + ": " + tensors_[i].name + ": is also in " + path(tensors_[i - 1]));
    }
  }
  return {};
}

const TensorInfo* TensorFiles::find(std::string_view name) const {
  const auto at = std::lower_bound(
      tensors_.begin(), tensors_.end(), name,
      [](const TensorInfo& t, std::string_view wanted) { return t.name < wanted; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

const std::string& TensorFiles::path(const TensorInfo& tensor) const {
  return files_[static_cast<size_t>(tensor.file)].path();
}

Status TensorFiles::read(const TensorInfo& tensor, int64_t offset, int64_t bytes, void* to) const {
  ENGRAM_CHECK(offset >= 0);
  ENGRAM_CHECK(bytes >= 0);
  ENGRAM_CHECK(offset + bytes <= tensor.bytes);
  return files_[static_cast<size_t>(tensor.file)].read(tensor.begin + offset, bytes, to);
}

void TensorFiles::forget(const TensorInfo& tensor, int64_t offset, int64_t bytes) const {
  files_[static_cast<size_t>(tensor.file)].forget(tensor.begin + offset, bytes);
}

}  // namespace engram::memory
