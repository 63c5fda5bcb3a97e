// The bytes of the cache: per layer keys and values, in fp8 with a scale byte per token and head,
// per Engram layer the convolution's inputs, all addressed by the same pages. Allocated once at
// start-up; who may use a page is PagePool's business.
#pragma once

#include <cstdint>
#include <vector>

#include "memory/base/status.h"
#include "memory/base/tensor.h"
#include "memory/device/device.h"

namespace engram::memory {

struct KvShape {
  int layers = 0;
  int kv_heads = 0;  // Nk
  int head_dim = 0;  // Dh
  int conv_layers = 0;
  int64_t conv_width = 0;  // G*D
  int page_tokens = 16;
  DType dtype = DType::kF32;     // act: of the convolution's inputs
  DType kv_dtype = DType::kF32;  // of keys and values: act, bf16, or e4m3 with scales

  int64_t kv_bytes() const;     // of one page: keys, or values, of one layer
  int64_t scale_bytes() const;  // of one page: their scales; 0 without
  int64_t conv_bytes() const;   // of one page of one convolution
  int64_t page_bytes() const;   // of one page in all layers
};

class KvCache {
 public:
  // RESOURCE_EXHAUSTED when the device has not the memory.
  static Result<KvCache> make(Device& device, const KvShape& shape, int64_t pages);

  const KvShape& shape() const { return shape_; }
  int64_t pages() const { return pages_; }
  void* keys(int layer) const { return keys_[static_cast<size_t>(layer)].data(); }
  void* values(int layer) const { return values_[static_cast<size_t>(layer)].data(); }
  // The scales of keys or values; null without.
  uint8_t* key_scales(int layer) const { return scales_of(layer, 0); }
  uint8_t* value_scales(int layer) const { return scales_of(layer, 1); }
  void* conv_inputs(int index) const { return conv_[static_cast<size_t>(index)].data(); }

 private:
  uint8_t* scales_of(int layer, int64_t which) const;

  KvShape shape_;
  int64_t pages_ = 0;
  std::vector<Buffer> keys_;    // [layers] of [pages, Nk, page_tokens, Dh]
  std::vector<Buffer> values_;  // the same
  std::vector<Buffer> scales_;  // [layers] of [2, pages, Nk, page_tokens] u8, or none
  std::vector<Buffer> conv_;    // [conv_layers] of [pages, page_tokens, G*D]
};

}  // namespace engram::memory
