// A small copy of the files a kernel shows, for functions that read them below a root.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "memory/base/status.h"

namespace engram::memory {

class FakeRoot {
 public:
  FakeRoot() {
    std::string pattern = (std::filesystem::temp_directory_path() / "engram-root-XXXXXX").string();
    ENGRAM_CHECK(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~FakeRoot() { std::filesystem::remove_all(path_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  void write(const std::string& file, const std::string& text) const {
    const std::filesystem::path full = path_ + "/" + file;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace engram::memory
