// Text files of many records, read piece by piece: JSONL line by line, and where the objects of a
// large JSON array are. Files that nobody vouches for. One thread.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "memory/base/status.h"
#include "memory/io/file.h"

namespace engram::tools::bench {

// A record may not be longer: a file that is none of ours is found out before it fills memory.
inline constexpr int64_t kMaxRecordBytes = int64_t{64} << 20;

// One line that a dataset is read from: its text without the newline, and "FILE:LINE".
struct Line {
  std::string_view text;
  std::string where;
  bool last_and_open = false;  // the file ends without a newline behind it
};

// Gives `take` every line that is not blank, until it says that it has enough (false) or fails.
// INVALID_ARGUMENT for a line over kMaxRecordBytes.
memory::Status for_each_line(
    const memory::File& file, const std::function<memory::Result<bool>(const Line& line)>& take);

// Where an object of a JSON array is in its file.
struct RecordPlace {
  int64_t offset = 0;
  int64_t bytes = 0;
  int64_t line = 0;  // from 1, where it begins
};

// Finds the objects of one JSON array of objects in text that comes in pieces of any size. It looks
// at brackets and strings only: what is within an object is for the parser.
class ArrayScanner {
 public:
  // `name` begins messages. INVALID_ARGUMENT, with the line, for what is not such an array.
  explicit ArrayScanner(std::string name) : name_(std::move(name)) {}
  memory::Status feed(std::string_view piece);
  // After the last piece: INVALID_ARGUMENT when the array is not complete.
  memory::Status finish() const;

  const std::vector<RecordPlace>& places() const { return places_; }

 private:
  enum class State { kBefore, kFirst, kElement, kInside, kString, kEscape, kComma, kAfter };
  memory::Status step(char c);
  memory::Status outside(char c);
  memory::Status unexpected(char c, const char* expected) const;

  std::string name_;
  std::vector<RecordPlace> places_;
  State state_ = State::kBefore;
  int64_t depth_ = 0;
  int64_t offset_ = 0;  // of the byte that step() looks at
  int64_t line_ = 1;
};

// The objects of the array in `file`.
memory::Result<std::vector<RecordPlace>> find_records(const memory::File& file);

}  // namespace engram::tools::bench
