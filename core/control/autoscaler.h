// Autoscaler v1: horizontal, one instance at a time, from the outstanding tokens per active instance. Pure.
#pragma once

#include <cstdint>

#include "core/control/specs.h"

namespace faultline::control {

class Autoscaler {
 public:
  explicit Autoscaler(AutoscalerSpec spec) : spec_(spec) {}
  struct View {
    Instant now;
    std::int32_t active = 0;     // instances that are to serve, broken ones included
    std::int32_t accepting = 0;  // of these, the ones that take requests
    std::int32_t starting = 0;   // on their way
    std::int32_t standby = 0;    // could be started
    std::int64_t outstanding_tokens = 0;
  };
  /// +1: start one, -1: drain one, 0: nothing. Called every spec.interval.
  int decide(const View& view);
  const AutoscalerSpec& spec() const { return spec_; }
  std::uint64_t digest() const { return static_cast<std::uint64_t>(changed_.ns); }

 private:
  AutoscalerSpec spec_;
  Instant changed_{-1};
};

}  // namespace faultline::control
