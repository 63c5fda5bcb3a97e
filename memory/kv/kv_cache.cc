#include "memory/kv/kv_cache.h"

#include <string>

namespace engram::memory {

int64_t KvShape::kv_bytes() const {
  return int64_t{kv_heads} * page_tokens * head_dim * dtype_bytes(kv_dtype);
}

int64_t KvShape::scale_bytes() const {
  return kv_dtype == DType::kF8E4m3 ? int64_t{kv_heads} * page_tokens : 0;
}

int64_t KvShape::conv_bytes() const {
  return page_tokens * conv_width * dtype_bytes(dtype);
}

int64_t KvShape::page_bytes() const {
  return layers * 2 * (kv_bytes() + scale_bytes()) + conv_layers * conv_bytes();
}

Result<KvCache> KvCache::make(Device& device, const KvShape& shape, int64_t pages) {
  KvCache cache;
  cache.shape_ = shape;
  cache.pages_ = pages;
  const auto add = [&](std::vector<Buffer>& to, const std::string& what, int64_t bytes) -> Status {
    Result<Buffer> buffer = device.allocate(what, bytes);
    if (!buffer.ok()) return buffer.status();
    to.push_back(std::move(buffer).value());
    return {};
  };
  for (int layer = 0; layer < shape.layers; ++layer) {
    const std::string at = " of layer " + std::to_string(layer);
    ENGRAM_RETURN_IF_ERROR(add(cache.keys_, "cache keys" + at, pages * shape.kv_bytes()));
    ENGRAM_RETURN_IF_ERROR(add(cache.values_, "cache values" + at, pages * shape.kv_bytes()));
    if (shape.scale_bytes() == 0) continue;
    ENGRAM_RETURN_IF_ERROR(
        add(cache.scales_, "cache scales" + at, 2 * pages * shape.scale_bytes()));
  }
  for (int index = 0; index < shape.conv_layers; ++index) {
    const std::string what = "convolution inputs " + std::to_string(index);
    ENGRAM_RETURN_IF_ERROR(add(cache.conv_, what, pages * shape.conv_bytes()));
  }
  return cache;
}

uint8_t* KvCache::scales_of(int layer, int64_t which) const {
  if (scales_.empty()) return nullptr;
  return scales_[static_cast<size_t>(layer)].as<uint8_t>() + which * pages_ * shape_.scale_bytes();
}

}  // namespace engram::memory
