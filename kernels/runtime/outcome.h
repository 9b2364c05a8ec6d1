// Errors as values: what an operation of the runtime gives instead of throwing.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace faultline::kernels {

struct Failure {
  std::string op;      // the operation that failed, e.g. "hipModuleLoadData"
  int code = 0;        // the library's number; 0 when the failure is ours
  std::string reason;  // for people

  std::string text() const {
    return op + " failed" + (code != 0 ? " (" + std::to_string(code) + ")" : "") + ": " + reason;
  }
};

struct Done {};

template <class T = Done>
class [[nodiscard]] Outcome {
 public:
  Outcome(T value) : state_(std::move(value)) {}            // NOLINT: a value is an outcome
  Outcome(Failure failure) : state_(std::move(failure)) {}  // NOLINT

  explicit operator bool() const { return std::holds_alternative<T>(state_); }
  T& value() { return std::get<T>(state_); }
  const T& value() const { return std::get<T>(state_); }
  const Failure& failure() const { return std::get<Failure>(state_); }

 private:
  std::variant<T, Failure> state_;
};

}  // namespace faultline::kernels
