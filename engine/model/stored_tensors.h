// Finding tensors of a checkpoint by name, with the shape and dtype they must have, and comparing
// small ones with what was derived. Start-up, one thread. Errors are INVALID_ARGUMENT and name the
// file, the tensor, what was expected and what was found.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/safetensors.h"
#include "memory/table/geometry.h"

namespace engram::engine {

// The tensor of that name, if it has the shape and one of the dtypes.
memory::Result<const memory::TensorInfo*> find_tensor(
    const memory::TensorFiles& files,
    const std::string& name,
    std::initializer_list<memory::DType> dtypes,
    const std::vector<int64_t>& shape);

// The tensor must hold exactly these numbers, as i64. `where` is put before the differing entry:
// "layer 1: ".
memory::Status compare_stored(
    const memory::TensorFiles& files,
    const std::string& name,
    const std::string& where,
    const std::vector<int64_t>& derived);

// The stored rows of a table, in bf16, f16, f32 or f8_e4m3 with ue8m0 scales; sets the geometry's
// codec. `scale` is the name of the scales' tensor, looked for with f8_e4m3 values only.
memory::Status check_stored_table(
    const memory::TensorFiles& files,
    const std::string& weight,
    const std::string& scale,
    memory::TableGeometry* geometry);

// The codec of rows that are stored in that dtype; f8_e4m3 with ue8m0 scales.
memory::RowCodec codec_of(memory::DType dtype);

}  // namespace engram::engine
