// Whether code ends the process, as a failed ENGRAM_CHECK does. Runs it in a child process, so call
// it before the test has threads of its own.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace engram::tests {

template <typename Code>
bool dies(const Code& code) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGABRT, SIG_DFL);  // not to the test framework
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, STDOUT_FILENO);
    ::dup2(nowhere, STDERR_FILENO);
    code();
    ::_exit(0);
  }
  int state = 0;
  if (child < 0 || ::waitpid(child, &state, 0) != child) return false;
  return WIFSIGNALED(state) && WTERMSIG(state) == SIGABRT;
}

}  // namespace engram::tests
