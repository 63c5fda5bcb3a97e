#include "server/front.h"

#include <atomic>
#include <cinttypes>
#include <cstdio>

#include "server/completion_call.h"

namespace engram::server {

void CallRegistry::add(const std::shared_ptr<CompletionCall>& call) {
  const std::lock_guard lock(mu_);
  calls_.emplace(call.get(), call);
}

void CallRegistry::remove(const CompletionCall* call) {
  const std::lock_guard lock(mu_);
  calls_.erase(call);
}

int64_t CallRegistry::size() const {
  const std::lock_guard lock(mu_);
  return static_cast<int64_t>(calls_.size());
}

std::vector<std::shared_ptr<CompletionCall>> CallRegistry::all() const {
  const std::lock_guard lock(mu_);
  std::vector<std::shared_ptr<CompletionCall>> live;
  live.reserve(calls_.size());
  for (const auto& [key, weak] : calls_) {
    if (std::shared_ptr<CompletionCall> call = weak.lock()) live.push_back(std::move(call));
  }
  return live;
}

std::string make_request_id(const Front& front) {
  static std::atomic<uint64_t> count = 0;  // only has to be unique
  uint64_t x = front.id_salt + 0x9e3779b97f4a7c15u * ++count;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  char text[32];
  std::snprintf(text, sizeof(text), "cmpl-%016" PRIx64, x ^ (x >> 31));
  return text;
}

}  // namespace engram::server
