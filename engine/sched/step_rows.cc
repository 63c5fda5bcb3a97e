#include "engine/sched/step_rows.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

namespace engram::engine {

using memory::Result;

StepRows::StepRows(memory::Device& device, memory::EnqueueDecode decode)
    : decode_(decode),
      side_(device.make_stream("step-rows", memory::StreamPriority::kHigh)),
      begun_(device.make_event()) {}

Result<std::unique_ptr<StepRows>> StepRows::make(
    memory::Device& device,
    memory::Stream& stream,
    memory::EnqueueDecode decode,
    std::span<const memory::TableGeometry* const> layers,
    const TokenMap& token_map,
    int64_t vocab_size,
    memory::DType act,
    int64_t max_tokens) {
  ENGRAM_CHECK(decode != nullptr);
  std::unique_ptr<StepRows> made(new StepRows(device, decode));
  std::vector<int32_t> canonical;
  for (int64_t id = 0; id < vocab_size; ++id) {
    canonical.push_back(token_map.of(static_cast<int32_t>(id)));
  }
  const int64_t map_bytes = vocab_size * static_cast<int64_t>(sizeof(int32_t));
  Result<memory::Buffer> map = device.allocate("token map", map_bytes);
  if (!map.ok()) return map.status();
  made->canonical_ = std::move(map).value();
  device.copy(stream, made->canonical_.data(), canonical.data(), map_bytes);
  stream.synchronize();
  for (const memory::TableGeometry* geometry : layers) {
    Layer& layer = made->layers_.emplace_back();
    Result<memory::DeviceRowHash> hash = memory::DeviceRowHash::make(device, stream, *geometry);
    if (!hash.ok()) return hash.status();
    layer.hash = std::move(hash).value();
    const int64_t width = geometry->vector_width();
    Result<memory::Buffer> staging = device.allocate(
        "n-gram rows of decode steps, layer " + std::to_string(geometry->layer),
        max_tokens * width * memory::dtype_bytes(act));
    if (!staging.ok()) return staging.status();
    layer.staging = std::move(staging).value();
    layer.view = memory::make_view(layer.staging.data(), act, max_tokens, width);
    layer.gathered = device.make_event();
  }
  made->order_.resize(layers.size());
  std::iota(made->order_.begin(), made->order_.end(), size_t{0});
  std::ranges::sort(made->order_, {}, [&](size_t i) { return layers[i]->layer; });
  return made;
}

void StepRows::use(
    size_t index,
    const memory::TableGeometry& geometry,
    std::span<const memory::PlacedRows> parts,
    const GatherChoice& choice,
    std::atomic<int64_t>* gather_ns) {
  ENGRAM_CHECK(parts.size() <= 2);
  ++version_;
  Layer& layer = layers_[index];
  layer.geometry = parts.empty() ? nullptr : &geometry;
  layer.choice = choice;
  layer.gather_ns = gather_ns;
  if (parts.empty()) return;
  layer.place = parts.front().place;
  layer.upper = parts.size() == 2 ? parts.back().place : memory::RowPlace{};
  layer.upper_first = parts.size() == 2 ? parts.back().first : std::numeric_limits<int64_t>::max();
}

bool StepRows::serves(int64_t tokens) const {
  return std::ranges::all_of(layers_, [&](const Layer& layer) {
    return layer.geometry != nullptr && tokens <= layer.view.rows &&
           layer.choice.way(tokens) != GatherWay::kHost;
  });
}

memory::RowGather StepRows::gather_of(const Layer& layer, int64_t tokens) const {
  const bool loads = layer.choice.way(tokens) == GatherWay::kLoads;
  return {
      .geometry = layer.geometry,
      .place = layer.place,
      .upper = layer.upper,
      .upper_first = layer.upper_first,
      .hash = &layer.hash.hash(),
      .tokens = tokens,
      .out = layer.view,
      .kernel = loads ? memory::RowKernel::kLoads : memory::RowKernel::kBulk};
}

std::vector<StagedRows> StepRows::enqueue(
    memory::Stream& compute, const int32_t* windows, const int32_t* slots, int64_t tokens) {
  compute.record(*begun_);
  side_->wait(*begun_, nullptr);
  for (const size_t index : order_) {
    const Layer& layer = layers_[index];
    memory::RowGather gather = gather_of(layer, tokens);
    gather.windows = windows;
    gather.slots = slots;
    side_->begin_span(layer.gather_ns);
    decode_(*side_, gather);
    side_->end_span(layer.gather_ns);
    side_->record(*layer.gathered);
  }
  std::vector<StagedRows> rows;
  for (const Layer& layer : layers_) {
    rows.push_back(
        {.ready = layer.gathered.get(),
         .rows = layer.view.row_range(0, tokens),
         .in_step_order = true});
  }
  return rows;
}

int64_t StepRows::bytes() const {
  int64_t bytes = canonical_.bytes();
  for (const Layer& layer : layers_) bytes += layer.staging.bytes();
  return bytes;
}

}  // namespace engram::engine
