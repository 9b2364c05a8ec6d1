// Expected operating errors are values. (std::expected needs C++23.)
#pragma once

#include <utility>
#include <variant>

#include "core/base/assert.h"
#include "core/base/cause.h"

namespace faultline {

template <class T>
class [[nodiscard]] Result {
  std::variant<T, Cause> state_;

 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}  // NOLINT: implicit on purpose
  Result(Cause cause) : state_(std::in_place_index<1>, cause) {          // NOLINT: implicit on purpose
    FAULTLINE_ASSERT(cause != Cause::none);
  }
  explicit operator bool() const { return state_.index() == 0; }
  T& value() {
    FAULTLINE_ASSERT(state_.index() == 0);
    return std::get<0>(state_);
  }
  const T& value() const {
    FAULTLINE_ASSERT(state_.index() == 0);
    return std::get<0>(state_);
  }
  Cause cause() const { return state_.index() == 0 ? Cause::none : std::get<1>(state_); }
};

using Status = Result<std::monostate>;
inline Status ok() { return std::monostate{}; }

}  // namespace faultline
