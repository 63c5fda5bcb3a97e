#include "memory/table/row_store.h"

#include <algorithm>
#include <utility>

namespace engram::memory {

Status RowStore::gather(
    const int64_t* row_ids,
    const int32_t* slots,
    int64_t tokens,
    View out,
    std::vector<int32_t>* failed) {
  ENGRAM_CHECK(tokens >= 0);
  ENGRAM_CHECK(out.cols == geometry().vector_width());
  ENGRAM_CHECK(out.dtype == DType::kF32 || out.dtype == DType::kBf16);
  const int64_t columns = geometry().columns();
  Status first;
  for (int64_t begin = 0; begin < tokens;) {
    const int64_t count = std::min(most_tokens(), tokens - begin);
    ENGRAM_CHECK(count > 0);
    const size_t failed_before = failed->size();
    Status status = do_gather(row_ids + begin * columns, slots + begin, count, out, failed);
    for (size_t i = failed_before; i < failed->size(); ++i) {
      (*failed)[i] += static_cast<int32_t>(begin);
    }
    if (first.ok()) first = std::move(status);
    begin += count;
  }
  return first;
}

}  // namespace engram::memory
