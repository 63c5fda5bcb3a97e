// A row store in front of a real one, for tests that change what it hands out.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "memory/table/row_store.h"

namespace engram::tests {

// What gathers is up to who derives from it.
class StoreWrapper : public memory::RowStore {
 public:
  explicit StoreWrapper(std::unique_ptr<memory::RowStore> inner) : inner_(std::move(inner)) {}

  const memory::TableGeometry& geometry() const override { return inner_->geometry(); }
  std::string placement() const override { return inner_->placement(); }
  std::string version() const override { return inner_->version(); }
  memory::RowStoreStats stats() const override { return inner_->stats(); }

 protected:
  memory::RowStore& inner() { return *inner_; }

 private:
  const std::unique_ptr<memory::RowStore> inner_;
};

}  // namespace engram::tests
