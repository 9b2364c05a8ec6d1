// A contract is a list of named clauses. A clause runs against a world (an implementation and a way to let time pass)
// and writes what did not hold into a Verdict, so that the negative suite can demand that a clause fails.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/quantity.h"

namespace faultline::contract {

class Verdict {
 public:
  /// Records the sentence if `held` is false; returns `held`.
  template <class... Args>
  bool expect(bool held, fmt::format_string<Args...> sentence, Args&&... args) {
    if (!held && failures_.size() < kFailuresMax)
      failures_.push_back(fmt::format(sentence, std::forward<Args>(args)...));
    return held;
  }
  bool ok() const { return failures_.empty(); }
  /// The world cannot show this clause; the reason is printed. A failure still counts.
  void skip(std::string reason) { skipped_ = std::move(reason); }
  const std::string& skipped() const { return skipped_; }
  std::string text() const {
    std::string all;
    for (const std::string& failure : failures_) all += failure + "\n";
    return all;
  }

 private:
  static constexpr std::size_t kFailuresMax = 20;  // one broken promise often shows at every operation
  std::vector<std::string> failures_;
  std::string skipped_;
};

template <class World>
struct Clause {
  const char* name;
  void (*run)(World&, Verdict&);
};

template <class World>
struct Implementation {
  std::string name;
  std::function<std::unique_ptr<World>()> make;
  /// Not empty: the suite is skipped visibly and this is what is missing.
  std::string missing;
  /// Each clause in a child process: for engines that exist once a process (SimGrid).
  bool own_process = false;
};

namespace detail {

/// Runs the clause in a child and brings its verdict back. The child leaves by _exit, so no test of the parent runs
/// twice.
template <class World>
void run_in_child(const Implementation<World>& implementation, const Clause<World>& clause, Verdict& verdict) {
  int ends[2];
  if (!verdict.expect(pipe(ends) == 0, "no pipe")) return;
  const pid_t child = fork();
  if (child == 0) {
    ::close(ends[0]);
    Verdict inner;
    {
      const auto world = implementation.make();
      clause.run(*world, inner);
    }
    const std::string text = inner.text();
    const ssize_t written = ::write(ends[1], text.data(), text.size());
    ::_exit(inner.ok() && written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t count = 0; (count = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(count));
  ::close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  verdict.expect(status == 0, "{}(child process ended with status {:#x})", text, status);
}

template <class World>
class ClauseTest : public ::testing::Test {
 public:
  ClauseTest(Implementation<World> implementation, Clause<World> clause)
      : implementation_(std::move(implementation)), clause_(clause) {}
  void TestBody() override {
    if (!implementation_.missing.empty()) GTEST_SKIP() << implementation_.missing;
    Verdict verdict;
    if (implementation_.own_process) {
      run_in_child(implementation_, clause_, verdict);
    } else {
      const auto world = implementation_.make();
      clause_.run(*world, verdict);
    }
    EXPECT_TRUE(verdict.ok()) << verdict.text();
    if (verdict.ok() && !verdict.skipped().empty()) GTEST_SKIP() << verdict.skipped();
  }

 private:
  Implementation<World> implementation_;
  Clause<World> clause_;
};

}  // namespace detail

/// Registers one test per clause, named <contract>_<implementation>.<clause>. Call at namespace scope:
///   const bool registered = register_contract("Transport", {.name = "Tcp", .make = [] { … }}, transport_clauses());
template <class World>
bool register_contract(const std::string& contract, const Implementation<World>& implementation,
                       const std::vector<Clause<World>>& clauses) {
  for (const Clause<World>& clause : clauses) {
    ::testing::RegisterTest((contract + "_" + implementation.name).c_str(), clause.name, nullptr, nullptr, __FILE__,
                            __LINE__, [implementation, clause]() -> ::testing::Test* {
                              return new detail::ClauseTest<World>(implementation, clause);
                            });
  }
  return true;
}

/// The clause with that name; the caller's typo is a failed test, not a crash.
template <class World>
const Clause<World>* find_clause(const std::vector<Clause<World>>& clauses, const std::string& name) {
  for (const Clause<World>& clause : clauses) {
    if (name == clause.name) return &clause;
  }
  return nullptr;
}

}  // namespace faultline::contract
