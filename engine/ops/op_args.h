// The arguments of the larger ops as one value, for what runs them later: closures on the CPU's
// stream, kernels on a GPU.
#pragma once

#include <cstdint>

#include "engine/ops/ops.h"

namespace engram::engine {

struct RopeAppend {
  const int32_t* slots = nullptr;
  View qkv;
  View q_norm;  // empty: none
  View k_norm;
  float eps = 0.f;
  View angles;
  KvLayer kv;
};

struct Attention {
  Batch batch;
  View q;
  KvLayer kv;
  float scale = 1.f;
  View out;
};

struct EngramGate {
  View key;
  View value;
  View h;
  View pending;  // empty: none
  View key_norm;
  View query_norm;
  float eps = 0.f;
  View gates;
  View u;
};

struct ShortConv {
  Batch batch;
  View u;
  View norm;
  float eps = 0.f;
  View conv;
  int dilation = 1;
  ConvLayer layer;
  View h;
};

}  // namespace engram::engine
