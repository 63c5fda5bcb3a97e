#include "tools/bench/record_file.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace engram::tools::bench {
namespace {

using memory::invalid_argument;
using memory::Result;
using memory::Status;

constexpr int64_t kPieceBytes = int64_t{1} << 20;

bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool is_blank(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return is_blank(c); });
}

// Reads `file` in pieces.
Status for_each_piece(
    const memory::File& file, const std::function<Result<bool>(std::string_view)>& take) {
  std::string piece;
  for (int64_t offset = 0; offset < file.bytes(); offset += kPieceBytes) {
    piece.resize(static_cast<size_t>(std::min(kPieceBytes, file.bytes() - offset)));
    ENGRAM_RETURN_IF_ERROR(file.read(offset, static_cast<int64_t>(piece.size()), piece.data()));
    const Result<bool> more = take(piece);
    if (!more.ok()) return more.status();
    if (!more.value()) break;
  }
  return {};
}

// Puts lines together from pieces.
class LineCutter {
 public:
  LineCutter(std::string name, const std::function<Result<bool>(const Line&)>& take)
      : name_(std::move(name)), take_(take) {}

  Result<bool> feed(std::string_view piece) {
    while (!piece.empty()) {
      const size_t newline = piece.find('\n');
      if (newline == std::string_view::npos) {
        held_ += piece;
        return check_length();
      }
      held_ += piece.substr(0, newline);
      piece.remove_prefix(newline + 1);
      const Result<bool> fits = check_length();
      if (!fits.ok()) return fits;
      const Result<bool> more = emit(false);
      if (!more.ok() || !more.value()) return more;
    }
    return true;
  }

  Result<bool> finish() { return emit(true); }

 private:
  Result<bool> check_length() const {
    if (static_cast<int64_t>(held_.size()) <= kMaxRecordBytes) return true;
    return invalid_argument(
        name_ + ":" + std::to_string(line_) + ": expected a line of at most " +
        std::to_string(kMaxRecordBytes) + " bytes, found a longer one");
  }

  Result<bool> emit(bool open) {
    const std::string text = std::move(held_);
    held_.clear();
    const int64_t number = line_++;
    if (is_blank(text)) return true;
    return take_({text, name_ + ":" + std::to_string(number), open});
  }

  std::string name_;
  const std::function<Result<bool>(const Line&)>& take_;
  std::string held_;
  int64_t line_ = 1;
};

}  // namespace

Status for_each_line(
    const memory::File& file, const std::function<Result<bool>(const Line& line)>& take) {
  LineCutter cutter(file.path(), take);
  bool enough = false;
  ENGRAM_RETURN_IF_ERROR(for_each_piece(file, [&](std::string_view piece) -> Result<bool> {
    Result<bool> more = cutter.feed(piece);
    enough = more.ok() && !more.value();
    return more;
  }));
  return enough ? Status() : cutter.finish().status();
}

Status ArrayScanner::unexpected(char c, const char* expected) const {
  char found[16];
  const bool printable = c > ' ' && c <= '~';
  std::snprintf(
      found, sizeof found, printable ? "%c" : "byte %d",
      printable ? c : static_cast<int>(static_cast<unsigned char>(c)));
  return invalid_argument(
      name_ + ":" + std::to_string(line_) + ": expected " + expected + ", found " + found);
}

// Between the objects.
Status ArrayScanner::outside(char c) {
  if (is_blank(c)) return {};
  switch (state_) {
    case State::kBefore:
      if (c != '[') return unexpected(c, "a JSON array of objects");
      state_ = State::kFirst;
      return {};
    case State::kFirst:
    case State::kElement:
      if (c == '{') {
        places_.push_back({offset_, 0, line_});
        depth_ = 1;
        state_ = State::kInside;
        return {};
      }
      if (c != ']' || state_ == State::kElement) return unexpected(c, "an object");
      state_ = State::kAfter;
      return {};
    case State::kComma:
      if (c != ',' && c != ']') return unexpected(c, "a comma or the end of the array");
      state_ = c == ',' ? State::kElement : State::kAfter;
      return {};
    default:
      return unexpected(c, "nothing behind the array");
  }
}

Status ArrayScanner::step(char c) {
  switch (state_) {
    case State::kInside:
      if (c == '"') state_ = State::kString;
      if (c == '{' || c == '[') ++depth_;
      if ((c == '}' || c == ']') && --depth_ == 0) {
        places_.back().bytes = offset_ + 1 - places_.back().offset;
        state_ = State::kComma;
      }
      break;
    case State::kString:
      if (c == '"') state_ = State::kInside;
      if (c == '\\') state_ = State::kEscape;
      break;
    case State::kEscape:
      state_ = State::kString;
      break;
    default:
      return outside(c);
  }
  if (offset_ - places_.back().offset < kMaxRecordBytes) return {};
  return invalid_argument(
      name_ + ":" + std::to_string(places_.back().line) + ": expected an object of at most " +
      std::to_string(kMaxRecordBytes) + " bytes, found a longer one");
}

Status ArrayScanner::feed(std::string_view piece) {
  for (const char c : piece) {
    ENGRAM_RETURN_IF_ERROR(step(c));
    ++offset_;
    if (c == '\n') ++line_;
  }
  return {};
}

Status ArrayScanner::finish() const {
  if (state_ == State::kAfter) return {};
  std::string found = "the end of the file";
  if (state_ == State::kInside || state_ == State::kString || state_ == State::kEscape) {
    found += " within the object that begins at line " + std::to_string(places_.back().line);
  }
  const std::string expected =
      state_ == State::kBefore ? "a JSON array of objects" : "the end of the JSON array";
  return invalid_argument(
      name_ + ":" + std::to_string(line_) + ": expected " + expected + ", found " + found +
      "; was it cut off?");
}

Result<std::vector<RecordPlace>> find_records(const memory::File& file) {
  ArrayScanner scanner(file.path());
  ENGRAM_RETURN_IF_ERROR(for_each_piece(file, [&](std::string_view piece) -> Result<bool> {
    if (Status status = scanner.feed(piece); !status.ok()) return status;
    return true;
  }));
  ENGRAM_RETURN_IF_ERROR(scanner.finish());
  return scanner.places();
}

}  // namespace engram::tools::bench
