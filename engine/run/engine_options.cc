#include "engine/run/engine_options.h"

#include <initializer_list>
#include <optional>
#include <string>

#include "engine/sched/prefetch.h"

namespace engram::engine {
namespace {

using memory::DType;
using memory::Result;
using memory::RowCodec;
using memory::Status;

Status check_range(const char* flag, int64_t value, int64_t low, int64_t high) {
  if (value >= low && value <= high) return {};
  return memory::invalid_argument(
      std::string(flag) + " must be between " + std::to_string(low) + " and " +
      std::to_string(high) + ", got " + std::to_string(value));
}

Status check_one_of(
    const char* flag, const std::string& value, std::initializer_list<const char*> known) {
  std::string list;
  for (const char* name : known) {
    if (value == name) return {};
    list += list.empty() ? name : std::string(", ") + name;
  }
  return memory::invalid_argument(std::string(flag) + " must be one of " + list + ", got " + value);
}

}  // namespace

DType act_dtype(const EngineOptions& o) {
  return o.dtype == "bfloat16" ? DType::kBf16 : DType::kF32;
}

Result<DType> kv_cache_dtype(const EngineOptions& o) {
  ENGRAM_RETURN_IF_ERROR(check_one_of(
      "--kv-cache-dtype", o.kv_cache_dtype, {"auto", "float32", "bfloat16", "fp8", "fp8_e4m3"}));
  if (o.kv_cache_dtype == "auto") return act_dtype(o);
  if (o.kv_cache_dtype == "bfloat16") return DType::kBf16;
  if (o.kv_cache_dtype != "float32") return DType::kF8E4m3;
  if (act_dtype(o) == DType::kF32) return DType::kF32;
  return memory::invalid_argument(
      "--kv-cache-dtype float32 needs --dtype float32: keys and values of --dtype " + o.dtype +
      " have no more digits");
}

Result<RowCodec> dummy_table_codec(const EngineOptions& o) {
  if (o.dummy_table_codec.empty()) return RowCodec::kBf16;
  const std::optional<RowCodec> codec = memory::parse_row_codec(o.dummy_table_codec);
  if (!codec) {
    std::string names;
    for (const RowCodec known : memory::kRowCodecs) {
      names.append(names.empty() ? "" : ", ").append(memory::row_codec_name(known));
    }
    return memory::invalid_argument(
        "--table-codec must be one of " + names + ", got " + o.dummy_table_codec);
  }
  const std::string& files = o.tables.directory.empty() ? o.tables.socket : o.tables.directory;
  const std::string own = o.load_format != "dummy" ? "the checkpoint" : files;
  if (own.empty()) return *codec;
  return memory::invalid_argument(
      "--table-codec " + o.dummy_table_codec + " is the codec of made-up rows, and those of " +
      own + " have their own (it needs --load-format dummy, without --tables and --table-socket)");
}

Status check_engine_options(const EngineOptions& o) {
  ENGRAM_RETURN_IF_ERROR(check_one_of("--device", o.device, {"auto", "cpu", "cuda"}));
  ENGRAM_RETURN_IF_ERROR(check_one_of("--dtype", o.dtype, {"auto", "float32", "bfloat16"}));
  ENGRAM_RETURN_IF_ERROR(kv_cache_dtype(o).status());
  ENGRAM_RETURN_IF_ERROR(dummy_table_codec(o).status());
  ENGRAM_RETURN_IF_ERROR(check_one_of("--quantization", o.quantization, {"none", "fp8"}));
  ENGRAM_RETURN_IF_ERROR(check_one_of("--load-format", o.load_format, {"auto", "dummy"}));
  ENGRAM_RETURN_IF_ERROR(fetch_mode(o.ngram_fetch).status());
  ENGRAM_RETURN_IF_ERROR(parse_gather_way(o.ngram_gather).status());
  ENGRAM_RETURN_IF_ERROR(check_range("--max-num-seqs", o.max_num_seqs, 1, 1 << 16));
  ENGRAM_RETURN_IF_ERROR(
      check_range("--max-num-batched-tokens", o.max_num_batched_tokens, 1, 1 << 17));
  ENGRAM_RETURN_IF_ERROR(check_range("--block-size", o.block_size, 1, 1024));
  ENGRAM_RETURN_IF_ERROR(check_range("--max-model-len", o.max_model_len, 0, int64_t{1} << 30));
  ENGRAM_RETURN_IF_ERROR(check_range("--kv-cache-memory", o.kv_cache_bytes, 0, int64_t{1} << 46));
  ENGRAM_RETURN_IF_ERROR(
      check_range("--max-queued-requests", o.max_queued_requests, 0, int64_t{1} << 30));
  ENGRAM_RETURN_IF_ERROR(check_range("--threads", o.threads, 0, 4096));
  ENGRAM_RETURN_IF_ERROR(check_range("--verify-rows", o.verify_rows, 0, 1000000000));
  if (o.max_num_batched_tokens < o.max_num_seqs) {
    return memory::invalid_argument(
        "--max-num-batched-tokens " + std::to_string(o.max_num_batched_tokens) +
        " is below --max-num-seqs " + std::to_string(o.max_num_seqs) +
        ": every running sequence needs a token per step");
  }
  return {};
}

}  // namespace engram::engine
