// A row store whose reads of chosen rows fail, in front of a real one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "memory/table/row_store.h"
#include "tests/support/store_wrapper.h"

namespace engram::tests {

// Which rows fail. Shared by the test and the stores; any thread.
class RowFaults {
 public:
  static constexpr int kAlways = 1 << 30;

  // The next `times` reads of the row fail.
  void fail(int layer, int64_t row, int times) {
    const std::lock_guard<std::mutex> lock(mu_);
    left_[{layer, row}] = times;
  }
  void heal() {
    const std::lock_guard<std::mutex> lock(mu_);
    left_.clear();
  }
  // Gathers that failed because of the row so far.
  int failures(int layer, int64_t row) {
    const std::lock_guard<std::mutex> lock(mu_);
    const auto found = failures_.find({layer, row});
    return found == failures_.end() ? 0 : found->second;
  }
  // A read of the row: whether it fails.
  bool read(int layer, int64_t row) {
    const std::lock_guard<std::mutex> lock(mu_);
    const auto found = left_.find({layer, row});
    if (found == left_.end() || found->second == 0) return false;
    --found->second;
    ++failures_[{layer, row}];
    return true;
  }

 private:
  std::mutex mu_;
  std::map<std::pair<int, int64_t>, int> left_;
  std::map<std::pair<int, int64_t>, int> failures_;
};

class FailingStore : public StoreWrapper {
 public:
  FailingStore(std::unique_ptr<memory::RowStore> inner, std::shared_ptr<RowFaults> faults)
      : StoreWrapper(std::move(inner)), faults_(std::move(faults)) {}

 private:
  memory::Status do_gather(
      const int64_t* row_ids,
      const int32_t* slots,
      int64_t tokens,
      memory::View out,
      std::vector<int32_t>* failed) override {
    memory::Status status = inner().gather(row_ids, slots, tokens, out, failed);
    const int64_t columns = geometry().columns();
    for (int64_t t = 0; t < tokens; ++t) {
      const int64_t* first = row_ids + t * columns;
      const int64_t* bad = std::find_if(first, first + columns, [&](int64_t row) {
        return faults_->read(geometry().layer, row);
      });
      if (bad == first + columns) continue;
      if (status.ok()) status = memory::unavailable("row " + std::to_string(*bad) + ": torn off");
      failed->push_back(static_cast<int32_t>(t));
      // What a failed read leaves behind is a number like any other.
      const int64_t row_bytes = out.stride * memory::dtype_bytes(out.dtype);
      std::fill_n(out.as<uint8_t>() + slots[t] * row_bytes, row_bytes, uint8_t{0x3c});
    }
    return status;
  }

  const std::shared_ptr<RowFaults> faults_;
};

}  // namespace engram::tests
