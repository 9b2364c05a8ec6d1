// TruthLog: what was really broken, when, and whether it took effect. No controller can read it; observers compare it
// with what the controllers noticed. JSON lines, the first one the header:
//
//   {"truth_log":1,"seed":1}
//   {"at_ns":60000000000,"fault":"leaf","kind":"switch.down","target":"leaf-0","active":true,"applied":true}
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/cause.h"
#include "core/base/quantity.h"

namespace faultline::record {

inline constexpr int kTruthLogVersion = 1;

class TruthLog {
 public:
  explicit TruthLog(std::uint64_t seed);
  /// One change of a fault: active = it was made true, else undone. `cause` says why where it could not be.
  void append(Instant at, std::string_view fault, std::string_view kind, std::string_view target, bool active,
              Cause cause);
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

}  // namespace faultline::record
