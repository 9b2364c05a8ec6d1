// Runs a body in a forked child, because SimGrid's engine exists once per process and its clock is never reset. The
// child's text comes back through a pipe; a crash, an assertion or an exception of the child is a failed test here.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>
#include <string>

namespace faultline::test {

/// What `body` returned in the child; "" after a failure, which is recorded in the running test.
inline std::string in_child(const std::function<std::string()>& body) {
  int ends[2];
  if (pipe(ends) != 0) {
    ADD_FAILURE() << "no pipe";
    return "";
  }
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    int status = 0;
    std::string text;
    try {
      text = body();
    } catch (const std::exception& e) {
      std::fprintf(stderr, "in the child process: %s\n", e.what());
      status = 1;
    }
    for (std::size_t at = 0; at < text.size();) {
      const ssize_t n = write(ends[1], text.data() + at, text.size() - at);
      if (n <= 0) _exit(2);
      at += static_cast<std::size_t>(n);
    }
    close(ends[1]);
    _exit(status);  // not exit(): the parent's buffers and handlers are the parent's
  }
  close(ends[1]);
  std::string text;
  char buffer[1 << 16];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<std::size_t>(n));
  close(ends[0]);
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
    ADD_FAILURE() << "the child process ended with wait status " << status;
    return "";
  }
  return text;
}

}  // namespace faultline::test
