#include "memory/io/read_progress.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

namespace engram::memory {
namespace {

// Answers without progress in a row before a read is given up.
constexpr int kMostRetries = 1000;

bool passes(int error) {
  return error == EINTR || error == EAGAIN;
}

}  // namespace

ReadProgress::ReadProgress(const ReadRequest& request, int64_t piece_bytes)
    : request_(request), piece_bytes_(std::max(piece_bytes, request.file->alignment())) {
  piece_bytes_ -= piece_bytes_ % request.file->alignment();
}

unsigned ReadProgress::bytes() const {
  return static_cast<unsigned>(std::min(request_.bytes - done_, piece_bytes_));
}

bool ReadProgress::fail(Status status) {
  status_ = std::move(status);
  return true;
}

bool ReadProgress::advance(int64_t answer) {
  if (answer < 0) {
    const int error = static_cast<int>(-answer);
    if (passes(error) && ++retries_ < kMostRetries) return false;
    const std::string message = request_.file->path() + ": reading " + std::to_string(bytes()) +
                                " bytes at byte " + std::to_string(offset()) +
                                " failed: " + std::strerror(error);
    return fail(passes(error) || error == ENOMEM ? unavailable(message) : internal(message));
  }
  ENGRAM_CHECK(answer <= bytes());
  if (answer < bytes()) return advance_short(answer);
  retries_ = 0;
  request_.file->forget(offset(), answer);
  done_ += answer;
  return done_ == request_.bytes;
}

// A direct read goes on at a block boundary, so bytes of a started block are read again. A count
// below one block is the end of the file, or the device failing within the block.
bool ReadProgress::advance_short(int64_t count) {
  const int64_t block = request_.file->direct() ? request_.file->alignment() : 1;
  const int64_t progress = count - count % block;
  request_.file->forget(offset(), count);
  done_ += progress;
  if (progress > 0) {
    retries_ = 0;
    return false;
  }
  const int64_t now = request_.file->bytes_now();
  const bool ended = count == 0 || (now >= 0 && offset() + count >= now);
  if (!ended && ++retries_ < kMostRetries) return false;
  const std::string end = std::to_string(offset() + count);
  if (!ended) {
    return fail(internal(request_.file->path() + ": reads stop at byte " + end + " without error"));
  }
  return fail(data_loss(
      request_.file->path() + ": ended at byte " + end + ", expected " +
      std::to_string(request_.offset + request_.bytes) + " bytes; was it changed while open?"));
}

}  // namespace engram::memory
