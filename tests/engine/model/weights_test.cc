// Every byte of a checkpoint reaches its place, whatever its dtype, sharding or optional parts.
#include "engine/model/weights.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>
#include <vector>

#include "engine/model/hash_constants.h"
#include "memory/io/safetensors.h"
#include "memory/table/row_decode.h"
#include "tests/support/checkpoints.h"
#include "tests/support/edited_checkpoint.h"
#include "tests/support/recording_ops.h"
#include "tests/support/temp_directory.h"

namespace engram::engine {
namespace {

using memory::Result;
using memory::TensorFiles;
using memory::TensorInfo;

struct Loaded {
  ModelConfig config;
  std::unique_ptr<memory::Device> device;
  Weights weights;
  std::unique_ptr<TensorFiles> files;
  std::vector<LoadProgress> progress;

  // A stored tensor's bytes.
  std::string stored(const std::string& name) const {
    const TensorInfo* tensor = files->find(name);
    REQUIRE(tensor != nullptr);
    std::string bytes(static_cast<size_t>(tensor->bytes), '\0');
    REQUIRE(files->read(*tensor, 0, tensor->bytes, bytes.data()).ok());
    return bytes;
  }
  bool has(const std::string& name) const { return files->find(name) != nullptr; }
};

Loaded load(const std::string& directory, bool quantize) {
  Loaded out;
  Result<ModelConfig> config = load_config(directory);
  INFO(config.status().to_string());
  REQUIRE(config.ok());
  out.config = config.value();
  out.config.quantization.online = quantize;
  out.device = memory::make_cpu_device(2);
  tests::RecordingOps ops;
  Result<Weights> weights = load_weights(
      directory, out.config, tests::tokenizer_size(directory), *out.device, ops,
      [&](const LoadProgress& p) { out.progress.push_back(p); });
  INFO(weights.status().to_string());
  REQUIRE(weights.ok());
  out.weights = std::move(weights).value();
  Result<TensorFiles> files = TensorFiles::open(directory);
  REQUIRE(files.ok());
  out.files = std::make_unique<TensorFiles>(std::move(files).value());
  return out;
}

Loaded load(const std::string& directory) {
  return load(directory, false);
}

// Weight (row, col) of a tensor, or of a matrix in f8_e4m3, from its code and the scale of its
// block.
float scaled_weight(uint8_t code, const float* scales, int64_t row, int64_t col, int64_t cols) {
  const int64_t scale_cols = (cols + kScaleCols - 1) / kScaleCols;
  return memory::e4m3_to_float(code) * scales[row * scale_cols + col / kScaleCols];
}
float fp8_weight(const Matrix& m, int64_t row, int64_t col) {
  const uint8_t code = static_cast<const uint8_t*>(m.data)[row * m.cols + col];
  return scaled_weight(code, m.scales, row / m.scale_rows, col, m.cols);
}

// The matrix consists of the rows of those tensors, one after the other.
void check_matrix(
    const Loaded& loaded, const Matrix& matrix, const std::vector<std::string>& names) {
  std::string expected;
  int64_t rows = 0;
  for (const std::string& name : names) {
    CAPTURE(name);
    expected += loaded.stored(name);
    rows += loaded.files->find(name)->shape[0];
    CHECK(loaded.files->find(name)->shape[1] == matrix.cols);
    CHECK(loaded.files->find(name)->dtype == matrix.dtype);
  }
  CAPTURE(names.front());
  CHECK(matrix.rows == rows);
  REQUIRE(
      expected.size() ==
      static_cast<size_t>(matrix.rows * matrix.cols * memory::dtype_bytes(matrix.dtype)));
  CHECK(std::memcmp(matrix.data, expected.data(), expected.size()) == 0);
}

float widened(const std::string& bytes, DType dtype, size_t index) {
  if (dtype == DType::kF32) {
    float value = 0;
    std::memcpy(&value, bytes.data() + 4 * index, 4);
    return value;
  }
  uint16_t bits = 0;
  std::memcpy(&bits, bytes.data() + 2 * index, 2);
  return dtype == DType::kF16 ? memory::half_to_float({bits})
                              : std::bit_cast<float>(uint32_t{bits} << 16);
}

// The view holds the values of those tensors, widened; it is empty when there are none.
void check_view(const Loaded& loaded, View view, const std::vector<std::string>& names) {
  int64_t at = 0;
  for (const std::string& name : names) {
    CAPTURE(name);
    const TensorInfo* tensor = loaded.files->find(name);
    REQUIRE(tensor != nullptr);
    const std::string bytes = loaded.stored(name);
    const size_t count = bytes.size() / static_cast<size_t>(memory::dtype_bytes(tensor->dtype));
    REQUIRE(at + static_cast<int64_t>(count) <= view.rows * view.cols);
    for (size_t i = 0; i < count; ++i) {
      REQUIRE(view.as<float>()[at++] == widened(bytes, tensor->dtype, i));
    }
  }
  CHECK(view.empty() == names.empty());
  CHECK(view.rows * view.cols == at);
}

std::vector<std::string> if_present(const Loaded& loaded, const std::vector<std::string>& names) {
  return loaded.has(names.front()) ? names : std::vector<std::string>{};
}

void check_layer(const Loaded& loaded, int index) {
  const LayerWeights& layer = loaded.weights.layers[static_cast<size_t>(index)];
  const std::string p = "model.layers." + std::to_string(index) + ".";
  const std::string a = p + "self_attn.";
  check_view(loaded, layer.input_norm, {p + "input_layernorm.weight"});
  check_matrix(loaded, layer.qkv, {a + "q_proj.weight", a + "k_proj.weight", a + "v_proj.weight"});
  check_view(
      loaded, layer.qkv_bias,
      if_present(loaded, {a + "q_proj.bias", a + "k_proj.bias", a + "v_proj.bias"}));
  check_view(loaded, layer.q_norm, if_present(loaded, {a + "q_norm.weight"}));
  check_view(loaded, layer.k_norm, if_present(loaded, {a + "k_norm.weight"}));
  check_matrix(loaded, layer.output, {a + "o_proj.weight"});
  check_view(loaded, layer.output_bias, if_present(loaded, {a + "o_proj.bias"}));
  check_view(loaded, layer.post_norm, {p + "post_attention_layernorm.weight"});
  check_matrix(loaded, layer.gate_up, {p + "mlp.gate_proj.weight", p + "mlp.up_proj.weight"});
  check_matrix(loaded, layer.down, {p + "mlp.down_proj.weight"});
  CHECK(layer.engram == loaded.config.engram_index(index));
}

void check_engram(const Loaded& loaded, size_t index) {
  const EngramWeights& e = loaded.weights.engram[index];
  const std::string p = engram_prefix(loaded.config.engram.layer_ids[index]);
  check_matrix(loaded, e.key_value, {p + "key_proj.weight", p + "value_proj.weight"});
  check_view(
      loaded, e.key_value_bias, if_present(loaded, {p + "key_proj.bias", p + "value_proj.bias"}));
  check_view(loaded, e.key_norm, {p + "key_norm.weight"});
  check_view(loaded, e.query_norm, {p + "query_norm.weight"});
  check_view(loaded, e.conv_norm, if_present(loaded, {p + "conv_norm.weight"}));
  check_view(loaded, e.conv, if_present(loaded, {p + "conv.weight"}));
  CHECK(e.key_norm.cols == loaded.config.hidden_size);
  if (!e.conv.empty()) CHECK(e.conv.cols == loaded.config.engram.kernel_size);

  const memory::TableSource* table = loaded.weights.tables[index].get();
  std::vector<uint8_t> image(static_cast<size_t>(table->image_bytes()));
  REQUIRE(table->load(image.data(), {}).ok());
  const memory::RowPlace place = table->place(image.data());
  const std::string values = loaded.stored(p + "embedding.weight");
  const memory::TableGeometry& g = table->geometry();
  CHECK(g.layer == loaded.config.engram.layer_ids[index]);
  REQUIRE(static_cast<int64_t>(values.size()) == g.rows * g.value_bytes());
  CHECK(std::memcmp(place.values, values.data(), values.size()) == 0);
  CHECK(loaded.has(p + "embedding.scale") == (g.scale_bytes() > 0));
  if (g.scale_bytes() > 0) {
    const std::string scales = loaded.stored(p + "embedding.scale");
    REQUIRE(static_cast<int64_t>(scales.size()) == g.rows * g.scale_bytes());
    CHECK(std::memcmp(place.scales, scales.data(), scales.size()) == 0);
  }
}

void check_everything(const std::string& directory) {
  CAPTURE(directory);
  const Loaded loaded = load(directory);
  const Weights& w = loaded.weights;
  check_matrix(loaded, w.embedding, {"model.embed_tokens.weight"});
  if (loaded.config.tie_word_embeddings) {
    CHECK(w.lm_head.data == w.embedding.data);
    CHECK(w.lm_head.rows == w.embedding.rows);
  } else {
    check_matrix(loaded, w.lm_head, {"lm_head.weight"});
  }
  check_view(loaded, w.final_norm, {"model.norm.weight"});
  REQUIRE(static_cast<int>(w.layers.size()) == loaded.config.num_hidden_layers);
  for (int l = 0; l < loaded.config.num_hidden_layers; ++l) check_layer(loaded, l);
  REQUIRE(w.engram.size() == loaded.config.engram.layer_ids.size());
  REQUIRE(w.tables.size() == w.engram.size());
  for (size_t i = 0; i < w.engram.size(); ++i) check_engram(loaded, i);
  if (!w.engram.empty()) {
    const std::string map = loaded.stored(kTokenMapTensor);
    REQUIRE(map.size() == 4 * w.token_map.canonical.size());
    CHECK(std::memcmp(map.data(), w.token_map.canonical.data(), map.size()) == 0);
    CHECK(w.token_map.pad == w.token_map.of(loaded.config.engram.pad_token_id));
  }
  REQUIRE_FALSE(loaded.progress.empty());
  CHECK(loaded.progress.back().bytes_done == loaded.progress.back().bytes_total);
  for (size_t i = 1; i < loaded.progress.size(); ++i) {
    CHECK(loaded.progress[i].bytes_done > loaded.progress[i - 1].bytes_done);
  }
}

TEST_CASE("every tensor of every checkpoint reaches its place", "[weights]") {
  for (const char* name :
       {"tiny-dense", "tiny-engram", "tiny-engram-fp8", "tiny-llama3-rope", "tiny-qwen3-engram",
        "tiny-engram-bias", "tiny-engram-yarn", "tiny-engram-f16", "tiny-engram-f32",
        "hf-llama-bias", "hf-qwen3"}) {
    check_everything(tests::checkpoint_directory(name));
  }
  check_everything(tests::demo_directory());
}

TEST_CASE("codecs and dtypes are those of the file", "[weights]") {
  const auto codec = [](const char* name) {
    return load(tests::checkpoint_directory(name)).weights.tables[0]->geometry().codec;
  };
  CHECK(codec("tiny-engram") == memory::RowCodec::kBf16);
  CHECK(codec("tiny-engram-fp8") == memory::RowCodec::kF8Ue8m0);
  CHECK(codec("tiny-engram-bias") == memory::RowCodec::kF16);
  CHECK(codec("tiny-engram-yarn") == memory::RowCodec::kF32);
  const Loaded f16 = load(tests::checkpoint_directory("tiny-engram-f16"));
  CHECK(f16.weights.layers[0].qkv.dtype == DType::kF16);
}

// Every weight has the value that its tensor and the scale of its block give, wherever the parts of
// a fused matrix begin.
void check_fp8_matrix(
    const Loaded& loaded, const Matrix& m, const std::vector<std::string>& names) {
  REQUIRE(m.dtype == DType::kF8E4m3);
  int64_t first = 0;
  for (const std::string& name : names) {
    CAPTURE(name);
    const TensorInfo* tensor = loaded.files->find(name);
    REQUIRE(tensor->dtype == DType::kF8E4m3);
    const std::string codes = loaded.stored(name);
    const std::string raw = loaded.stored(name + "_scale_inv");
    const TensorInfo* stored_scales = loaded.files->find(name + "_scale_inv");
    std::vector<float> scales;
    for (int64_t i = 0; i < stored_scales->shape[0] * stored_scales->shape[1]; ++i) {
      scales.push_back(widened(raw, stored_scales->dtype, static_cast<size_t>(i)));
    }
    for (int64_t r = 0; r < tensor->shape[0]; ++r) {
      for (int64_t c = 0; c < m.cols; ++c) {
        const uint8_t code = static_cast<uint8_t>(codes[static_cast<size_t>(r * m.cols + c)]);
        const float expected = scaled_weight(code, scales.data(), r / 128, c, m.cols);
        REQUIRE(fp8_weight(m, first + r, c) == expected);
      }
    }
    first += tensor->shape[0];
  }
  CHECK(first == m.rows);
}

void check_fp8_checkpoint(const std::string& directory) {
  const Loaded loaded = load(directory);
  const std::vector<LayerWeights>& layers = loaded.weights.layers;
  for (size_t i = 0; i < layers.size(); ++i) {
    const std::string p = "model.layers." + std::to_string(i) + ".";
    check_fp8_matrix(
        loaded, layers[i].qkv,
        {p + "self_attn.q_proj.weight", p + "self_attn.k_proj.weight",
         p + "self_attn.v_proj.weight"});
    check_fp8_matrix(loaded, layers[i].output, {p + "self_attn.o_proj.weight"});
    check_fp8_matrix(
        loaded, layers[i].gate_up, {p + "mlp.gate_proj.weight", p + "mlp.up_proj.weight"});
    if (i != 0) check_fp8_matrix(loaded, layers[i].down, {p + "mlp.down_proj.weight"});
  }
  CHECK(layers[0].qkv.scale_rows == 32);  // k begins at 192, v at 288
  CHECK(layers[0].output.scale_rows == 128);
  const std::string e = "model.layers.1.engram.";
  check_fp8_matrix(
      loaded, loaded.weights.engram[0].key_value, {e + "key_proj.weight", e + "value_proj.weight"});
  // What modules_to_not_convert names, and what is never converted.
  check_matrix(loaded, layers[0].down, {"model.layers.0.mlp.down_proj.weight"});
  const std::string f = "model.layers.2.engram.";
  check_matrix(
      loaded, loaded.weights.engram[1].key_value, {f + "key_proj.weight", f + "value_proj.weight"});
  check_matrix(loaded, loaded.weights.embedding, {"model.embed_tokens.weight"});
  check_matrix(loaded, loaded.weights.lm_head, {"lm_head.weight"});
}

TEST_CASE("stored fp8 weights and their scales reach their places", "[weights][fp8]") {
  const std::string directory = tests::checkpoint_directory("tiny-fp8-weights");
  check_fp8_checkpoint(directory);
  // Scales in bf16, as Qwen3-FP8 has them.
  tests::TempDirectory edited;
  auto checkpoint = tests::EditedCheckpoint::read(directory);
  for (auto& [name, tensor] : checkpoint.tensors) {
    if (tensor.dtype != "F32" || name.find("_scale_inv") == std::string::npos) continue;
    const size_t count = tensor.bytes.size() / 4;
    tests::StoredTensor narrow{"BF16", tensor.shape, std::string(2 * count, '\0')};
    for (size_t i = 0; i < count; ++i) narrow.set(i, memory::Bf16(tensor.get<float>(i)).bits);
    tensor = narrow;
  }
  checkpoint.write(edited.path());
  std::filesystem::copy(directory + "/tokenizer.json", edited.path() + "/tokenizer.json");
  check_fp8_checkpoint(edited.path());
}

// The weights that quantising made, against those of the file: within half a step of e4m3, and the
// largest of every block exactly at the end of its range.
void check_quantised(const Loaded& loaded, const Matrix& m, const std::vector<std::string>& names) {
  REQUIRE(m.dtype == DType::kF8E4m3);
  int64_t first = 0;
  for (const std::string& name : names) {
    CAPTURE(name);
    const TensorInfo* tensor = loaded.files->find(name);
    const std::string bytes = loaded.stored(name);
    for (int64_t r = 0; r < tensor->shape[0]; ++r) {
      for (int64_t c = 0; c < m.cols; ++c) {
        const float w = widened(bytes, tensor->dtype, static_cast<size_t>(r * m.cols + c));
        const int64_t scale_row = (first + r) / m.scale_rows;
        const float scale = scaled_weight(0x38, m.scales, scale_row, c, m.cols);  // the code of 1
        const float step = std::max(std::abs(w) / 16, scale * 0x1p-10f);
        REQUIRE(std::abs(fp8_weight(m, first + r, c) - w) <= step * 1.0001f);
        REQUIRE(std::abs(w) <= 448.001f * scale);
      }
    }
    first += tensor->shape[0];
  }
  CHECK(first == m.rows);
}

TEST_CASE("linear layers are quantised while they are loaded", "[weights][fp8]") {
  for (const char* name : {"tiny-engram", "tiny-engram-f16", "tiny-engram-f32", "tiny-dense"}) {
    CAPTURE(name);
    const Loaded loaded = load(tests::checkpoint_directory(name), true);
    for (size_t i = 0; i < loaded.weights.layers.size(); ++i) {
      const LayerWeights& layer = loaded.weights.layers[i];
      const std::string p = "model.layers." + std::to_string(i) + ".";
      check_quantised(
          loaded, layer.qkv,
          {p + "self_attn.q_proj.weight", p + "self_attn.k_proj.weight",
           p + "self_attn.v_proj.weight"});
      check_quantised(loaded, layer.output, {p + "self_attn.o_proj.weight"});
      check_quantised(
          loaded, layer.gate_up, {p + "mlp.gate_proj.weight", p + "mlp.up_proj.weight"});
      check_quantised(loaded, layer.down, {p + "mlp.down_proj.weight"});
    }
    check_matrix(loaded, loaded.weights.embedding, {"model.embed_tokens.weight"});
    CHECK(loaded.weights.fp8_errors.size() == 7);
    const Fp8Error& error = loaded.weights.fp8_errors.at("mlp.up_proj.weight");
    const double relative = std::sqrt(error.squared_error / error.squared);
    CHECK(relative > 0.01);  // uniform mantissas of 3 bits: 0.026
    CHECK(relative < 0.04);
    if (loaded.weights.engram.empty()) continue;
    const std::string e = "model.layers.1.engram.";
    check_matrix(
        loaded, loaded.weights.engram[0].key_value,
        {e + "key_proj.weight", e + "value_proj.weight"});
  }
  // f32 holds the same values as bf16, so the same becomes of them.
  const Loaded a = load(tests::checkpoint_directory("tiny-engram"), true);
  const Loaded b = load(tests::checkpoint_directory("tiny-engram-f32"), true);
  const Matrix& m = a.weights.layers[1].gate_up;
  const Matrix& same = b.weights.layers[1].gate_up;
  CHECK(std::memcmp(m.data, same.data, static_cast<size_t>(m.rows * m.cols)) == 0);
}

TEST_CASE("what a checkpoint leaves in bf16 can be quantised by nobody", "[weights][fp8]") {
  const Loaded loaded = load(tests::checkpoint_directory("tiny-fp8-weights"), true);
  check_matrix(loaded, loaded.weights.layers[0].down, {"model.layers.0.mlp.down_proj.weight"});
}

TEST_CASE("tensors that nobody reads are allowed on published backbones only", "[weights]") {
  tests::TempDirectory directory;
  auto checkpoint = tests::EditedCheckpoint::read(tests::checkpoint_directory("tiny-llama3-rope"));
  checkpoint.config["tie_word_embeddings"] = true;
  checkpoint.tensors["model.layers.1.self_attn.rotary_emb.inv_freq"] = {
      "F32", {16}, std::string(64, '\0')};
  checkpoint.write(directory.path());
  const Result<ModelConfig> config = load_config(directory.path());
  REQUIRE(config.ok());
  const auto device = memory::make_cpu_device(1);
  tests::RecordingOps ops;
  const Result<Weights> weights =
      load_weights(directory.path(), config.value(), 500, *device, ops, {});
  INFO(weights.status().to_string());
  REQUIRE(weights.ok());
  CHECK(weights.value().lm_head.data == weights.value().embedding.data);
}

TEST_CASE("hash constants load without weights", "[weights]") {
  const std::string directory = tests::checkpoint_directory("tiny-engram-bias");
  const Result<HashOnly> hash = load_hash_only(directory, tests::tokenizer_size(directory));
  INFO(hash.status().to_string());
  REQUIRE(hash.ok());
  const Loaded loaded = load(directory);
  CHECK(hash.value().token_map.canonical == loaded.weights.token_map.canonical);
  CHECK(hash.value().geometries[1].moduli == loaded.weights.tables[1]->geometry().moduli);
  CHECK(hash.value().geometries[0].layer == 3);

  const memory::Status none =
      load_hash_only(tests::checkpoint_directory("tiny-dense"), 500).status();
  CHECK(none.code() == memory::Code::kFailedPrecondition);
}

TEST_CASE("dummy weights are finite, of unit scale and the same every time", "[weights]") {
  const ModelConfig config = load_config(tests::checkpoint_directory("tiny-engram")).value();
  const auto device = memory::make_cpu_device(2);
  tests::RecordingOps ops;
  const Result<Weights> a = make_dummy_weights(config, *device, ops);
  const Result<Weights> b = make_dummy_weights(config, *device, ops);
  REQUIRE(a.ok());
  REQUIRE(b.ok());
  REQUIRE(a.value().weight_bytes > 0);
  CHECK(a.value().weight_bytes == b.value().weight_bytes);
  CHECK(
      std::memcmp(
          a.value().storage[0].data(), b.value().storage[0].data(),
          static_cast<size_t>(a.value().weight_bytes)) == 0);
  const Matrix& m = a.value().layers[2].gate_up;
  double squares = 0;
  for (int64_t i = 0; i < m.rows * m.cols; ++i) {
    const double x = static_cast<float>(static_cast<const memory::Bf16*>(m.data)[i]);
    REQUIRE(std::isfinite(x));
    squares += x * x;
  }
  CHECK(squares / static_cast<double>(m.rows) == Approx(1.0).epsilon(0.1));
  for (int64_t i = 0; i < config.hidden_size; ++i) {
    CHECK(std::fabs(a.value().final_norm.as<float>()[i] - 1.f) <= 0.1f);
  }
  const memory::TableSource* table = a.value().tables[1].get();
  std::vector<uint8_t> image(static_cast<size_t>(table->image_bytes()));
  REQUIRE(table->load(image.data(), {}).ok());
  const int64_t values = table->geometry().rows * table->geometry().row_width;
  squares = 0;
  for (int64_t i = 0; i < values; ++i) {
    const double x = static_cast<float>(reinterpret_cast<const memory::Bf16*>(image.data())[i]);
    squares += x * x;
  }
  CHECK(squares / static_cast<double>(values) == Approx(1.0).epsilon(0.02));
  CHECK(static_cast<int64_t>(a.value().token_map.canonical.size()) == config.vocab_size);
}

TEST_CASE("dummy tables have the codec asked for, in memory and row by row", "[weights]") {
  const ModelConfig config = load_config(tests::checkpoint_directory("tiny-engram")).value();
  for (const memory::RowCodec codec : memory::kRowCodecs) {
    CAPTURE(memory::row_codec_name(codec));
    ModelConfig wide = config;
    wide.engram.head_dim = 64;
    const auto request = dummy_table_request(wide, codec);
    REQUIRE(request.ok());
    REQUIRE(request.value().sources.size() == config.engram.layer_ids.size());
    const memory::TableSource& table = *request.value().sources[1];
    const memory::TableGeometry& g = table.geometry();
    CHECK(g.codec == codec);
    CHECK(memory::check_geometry(g).ok());
    std::vector<uint8_t> image(static_cast<size_t>(table.image_bytes()));
    int64_t told = 0;
    REQUIRE(table.load(image.data(), [&](int64_t bytes) { told += bytes; }).ok());
    CHECK(told == g.rows * (g.value_bytes() + g.scale_bytes()));
    const memory::RowPlace place = table.place(image.data());
    std::vector<uint8_t> values(static_cast<size_t>(g.value_bytes()));
    std::vector<uint8_t> scales(static_cast<size_t>(g.scale_bytes()));
    std::vector<float> decoded(static_cast<size_t>(g.row_width));
    std::set<std::vector<uint8_t>> different;
    for (int64_t row = 0; row < g.rows; ++row) {
      uint8_t* const to = scales.empty() ? nullptr : scales.data();
      REQUIRE(table.read_row(row, values.data(), to).ok());
      const uint8_t* at = place.values + row * place.value_stride;
      REQUIRE(std::equal(values.begin(), values.end(), at));
      if (to != nullptr) {
        REQUIRE(std::equal(scales.begin(), scales.end(), place.scales + row * place.scale_stride));
      }
      different.insert(values);
      memory::decode_row(g, values.data(), to, memory::DType::kF32, decoded.data());
      for (const float x : decoded) REQUIRE((std::isfinite(x) && std::fabs(x) < 32.f));
    }
    CHECK(std::ssize(different) == g.rows);
  }
  ModelConfig odd = config;
  odd.engram.head_dim = 80;
  CHECK(dummy_table_request(odd, memory::RowCodec::kF8Tensor).ok());
  const auto integers = dummy_table_request(odd, memory::RowCodec::kInt4);
  REQUIRE(integers.ok());
  CHECK(integers.value().sources[0]->geometry().group == 16);
  const memory::Status refused = dummy_table_request(odd, memory::RowCodec::kF8Ue8m0).status();
  CHECK(refused.code() == memory::Code::kInvalidArgument);
  CHECK(
      refused.message() ==
      "--table-codec f8_e4m3+ue8m0 cannot store the model's rows of 80 values: it needs a "
      "multiple of 32");
}

}  // namespace
}  // namespace engram::engine
