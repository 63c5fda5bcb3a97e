#include "tools/interrupt.h"

#include <signal.h>

namespace engram::tools {
namespace {

// Atomic: set by a signal handler; lock-free on every machine that this runs on.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

void on_signal(int) {
  interrupted.store(true);
}

}  // namespace

const std::atomic<bool>* watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  return &interrupted;
}

}  // namespace engram::tools
