#include "memory/table/geometry.h"

namespace engram::memory {

const char* row_codec_name(RowCodec codec) {
  switch (codec) {
    case RowCodec::kBf16:
      return "bf16";
    case RowCodec::kF16:
      return "f16";
    case RowCodec::kF32:
      return "f32";
    case RowCodec::kF8Ue8m0:
      return "f8_e4m3+ue8m0";
  }
  return "?";
}

int64_t TableGeometry::value_bytes() const {
  switch (codec) {
    case RowCodec::kBf16:
    case RowCodec::kF16:
      return 2 * row_width;
    case RowCodec::kF32:
      return 4 * row_width;
    case RowCodec::kF8Ue8m0:
      return row_width;
  }
  ENGRAM_CHECK(false);
  return 0;
}

int64_t TableGeometry::scale_bytes() const {
  return codec == RowCodec::kF8Ue8m0 ? row_width / 32 : 0;
}

}  // namespace engram::memory
