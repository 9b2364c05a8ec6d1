// Autoscaler v1: horizontal, one instance at a time, from the outstanding tokens per active instance. Pure.
#pragma once

#include <cstdint>

#include "core/control/specs.h"

namespace faultline::control {

class Autoscaler {
 public:
  explicit Autoscaler(AutoscalerSpec spec) : spec_(spec) {}
  /// +1: start one, -1: drain one, 0: nothing. `active` counts instances that serve; `starting` those on their way;
  /// `standby` those that could be started. Called every spec.interval.
  int decide(Instant now, std::int32_t active, std::int32_t starting, std::int32_t standby, std::int64_t outstanding_tokens);
  const AutoscalerSpec& spec() const { return spec_; }
  std::uint64_t digest() const { return static_cast<std::uint64_t>(changed_.ns); }

 private:
  AutoscalerSpec spec_;
  Instant changed_{-1};
};

}  // namespace faultline::control
